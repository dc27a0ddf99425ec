using System.Text.RegularExpressions;
using Qian.Inference;
using Qian.Kernels;

namespace Qian.Weights;

// "REGEX=TYPE": matrices whose GGUF name holds a match take that type, whatever the mix says. Of several rules the first that
// matches counts. Expressions come from a command line, so they run without backtracking.
internal sealed class TensorRule
{
    private readonly Regex _pattern;

    private TensorRule(string text, Regex pattern, WeightType type)
    {
        Text = text;
        _pattern = pattern;
        Type = type;
    }

    // As it was given, for messages.
    public string Text { get; }

    public WeightType Type { get; }

    public static TensorRule Parse(string text)
    {
        int sign = text.LastIndexOf('=');
        if (sign < 1)
            throw new BadRequestException($"--tensor {text}: expected REGEX=TYPE, such as ffn_down=Q6_K");
        string typeName = text[(sign + 1)..];
        if (!WeightFormat.TryParse(typeName, out WeightType type))
            throw new BadRequestException($"--tensor {text}: there is no weight type '{typeName}'");
        if (!WeightFormat.CanEncode(type) || type == WeightType.NVFP4)
            throw new BadRequestException($"--tensor {text}: {WeightFormat.Name(type)} is read, not written");
        try
        {
            return new TensorRule(text, new Regex(text[..sign], RegexOptions.NonBacktracking | RegexOptions.CultureInvariant), type);
        }
        catch (Exception error) when (error is ArgumentException or NotSupportedException)
        {
            throw new BadRequestException($"--tensor {text}: {error.Message}", error);
        }
    }

    public bool Matches(string tensorName) => _pattern.IsMatch(tensorName);
}
