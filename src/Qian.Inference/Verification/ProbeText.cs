using Qian.Inference.Model;
using Qian.Inference.Text;
using Qian.Kernels;

namespace Qian.Inference.Verification;

// A short text that any model of the family finds likely, to tell a model from nearly the same model with something in the wrong
// place: questions with answers. Only the answers count.
internal static class ProbeText
{
    private const int RowsAtOnce = 32;

    private static readonly (string Before, string Said)[] s_passages =
    [
        Chat("Complete this function:\n```python\ndef is_divisible_by_three(number):\n    \"\"\"Return True if the digit sum of number is divisible by 3.\"\"\"\n```", "```python\ndef is_divisible_by_three(number):\n    digit_sum = sum(int(d) for d in str(number))\n    return digit_sum % 3 == 0\n```"),
        Chat("Which color has milk?", "Milk is white."),
        Chat("Now write a C# function called LargestDoubles which returns the greatest of twice the integers greater than 10 in a list of ints. Keep it short.", "```csharp\npublic static int LargestDoubles(List<int> numbers)\n{\n    return numbers.Where(n => n > 10).Select(n => 2 * n).Max();\n}\n```"),
        Chat("How many days does a normal year have?", "A normal year has 365 days."),
        Chat("It should return the number of words that start with 'a' of text. Fill in the body of this function:\n```python\ndef count_words_starting_with_a(text: str) -> int:\n```", "```python\ndef count_words_starting_with_a(text: str) -> int:\n    return len([w for w in text.split() if w.startswith(\"a\")])\n```"),
        Chat("Do you know the capital of Romania?", "The capital of Romania is Bucharest."),
        Chat("Implement a C# method called ComputeDigitCountHalf to get the number of digits of half of a number, rounded down. No explanation needed.", "```csharp\npublic static int ComputeDigitCountHalf(int number)\n{\n    int half = number / 2;\n    return half.ToString().Length;\n}\n```"),
        Chat("Here is the signature of a C# method; write it out:\n```csharp\n/// <summary>Returns a string of the words of text, in upper case with dashes between.</summary>\npublic static string DashedWordsUpper(string text)\n```", "```csharp\npublic static string DashedWordsUpper(string text)\n{\n    return string.Join(\"-\", text.Split(' ').Select(word => word.ToUpper()));\n}\n```"),
        Chat("Tell me the day after Tuesday.", "After Tuesday comes Wednesday."),
        Chat("It should return text in lower case with '!' at the end. Complete:\n```csharp\npublic static string LowerWithMark(string text)\n```", "```csharp\npublic static string LowerWithMark(string text)\n{\n    string lower = text.ToLower();\n    return lower + \"!\";\n}\n```"),
    ];

    // Nats of every token of every answer.
    public static List<double[]> Losses(LoadedModel model, Tokenizer tokenizer)
    {
        int vocabulary = model.Config.VocabularySize;
        var passages = new List<double[]>();
        var batch = new ForwardBatch(model.Network.MaxRows);
        using NativeBuffer logits = NativeBuffer.AllocateFloats((long)RowsAtOnce * vocabulary);
        using SequenceState sequence = model.NewSequence();
        foreach ((string before, string said) in s_passages)
        {
            int first = tokenizer.Encode(before, matchAddedTokens: true).Length;
            int[] ids = tokenizer.Encode(before + said, matchAddedTokens: true);
            ids = ids[..Math.Min(ids.Length, model.Network.MaxRows)];
            sequence.Reset();
            if (!sequence.TryReserve(ids.Length))
                throw new InvalidOperationException("the KV pool of the verification is too small");
            batch.Clear();
            batch.Add(sequence, ids);
            model.Network.Forward(batch);
            var losses = new List<double>();
            for (int row = first - 1; row < ids.Length - 1; row += RowsAtOnce)
            {
                int count = Math.Min(RowsAtOnce, ids.Length - 1 - row);
                FloatView rows = logits.Floats(0, (long)count * vocabulary);
                model.Network.Logits([.. Enumerable.Range(row, count)], rows);
                for (int i = 0; i < count; i++)
                    losses.Add(Loss(rows.Slice((long)i * vocabulary, vocabulary).Span, ids[row + i + 1]));
            }

            passages.Add([.. losses]);
        }

        batch.Clear();
        return passages;
    }

    private static (string Before, string Said) Chat(string question, string answer) =>
        ($"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", $"{answer}<|im_end|>\n");

    private static double Loss(ReadOnlySpan<float> logits, int target)
    {
        double peak = double.NegativeInfinity, sum = 0;
        foreach (float logit in logits)
            peak = Math.Max(peak, logit);
        foreach (float logit in logits)
            sum += Math.Exp(logit - peak);
        return peak + Math.Log(sum) - logits[target];
    }
}
