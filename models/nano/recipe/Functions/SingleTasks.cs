namespace Qian.Nano;

// Tasks that stand alone, as a table: name, phrases, parameters (pool of names and sort), result, both bodies and an evaluator.
// $0, $1 … are the parameters; #0 the length of a C# array or list.
internal static class SingleTasks
{
    private sealed record Task(string Name, string[] Phrases, (string Pool, Sort Sort)[] Parameters, Sort Result, string CSharp, string Python, Func<object[], object> Evaluate, string Plan)
    {
        public Func<Dice, object[]>? Arguments { get; init; }
    }

    private static readonly (string, Sort)[] s_number = [("number", Sort.Int)];
    private static readonly (string, Sort)[] s_two = [("first", Sort.Int), ("second", Sort.Int)];
    private static readonly (string, Sort)[] s_text = [("text", Sort.Text)];
    private static readonly (string, Sort)[] s_list = [("numbers", Sort.Ints)];
    private static readonly (string, Sort)[] s_twoLists = [("numbers", Sort.Ints), ("second", Sort.Ints)];
    private static readonly (string, Sort)[] s_listAndCount = [("numbers", Sort.Ints), ("count", Sort.Int)];
    private static readonly (string, Sort)[] s_listAndItem = [("numbers", Sort.Ints), ("item", Sort.Int)];

    private static readonly Task[] s_tasks =
    [
        new("greatest divisor", ["the greatest common divisor of $0 and $1"], s_two, Sort.Int, "while ($1 != 0)\n    ($0, $1) = ($1, $0 % $1);\nreturn $0;", "while $1:\n    $0, $1 = $1, $0 % $1\nreturn $0", a => Gcd((long)a[0], (long)a[1]), "use Euclid: replace the pair by the second and the remainder until it is 0") { Arguments = d => [(long)d.Between(1, 60), (long)d.Between(1, 60)] },
        new("least multiple", ["the least common multiple of $0 and $1"], s_two, Sort.Int, "int multiple = $0;\nwhile (multiple % $1 != 0)\n    multiple += $0;\nreturn multiple;", "multiple = $0\nwhile multiple % $1 != 0:\n    multiple += $0\nreturn multiple", a => (long)a[0] * (long)a[1] / Gcd((long)a[0], (long)a[1]), "step through the multiples of the first") { Arguments = d => [(long)d.Between(1, 30), (long)d.Between(1, 30)] },
        new("larger of two", ["the larger of $0 and $1", "the maximum of $0 and $1"], s_two, Sort.Int, "return $0 > $1 ? $0 : $1;", "return $0 if $0 > $1 else $1", a => Math.Max((long)a[0], (long)a[1]), "compare the two"),
        new("smaller of two", ["the smaller of $0 and $1", "the minimum of $0 and $1"], s_two, Sort.Int, "return $0 < $1 ? $0 : $1;", "return $0 if $0 < $1 else $1", a => Math.Min((long)a[0], (long)a[1]), "compare the two"),
        new("absolute difference", ["the absolute difference of $0 and $1", "how far apart $0 and $1 are"], s_two, Sort.Int, "return Math.Abs($0 - $1);", "return abs($0 - $1)", a => Math.Max((long)a[0], (long)a[1]) - Math.Min((long)a[0], (long)a[1]), "subtract and drop the sign"),
        new("mean of two", ["the average of $0 and $1", "the mean of $0 and $1"], s_two, Sort.Double, "return ($0 + $1) / 2.0;", "return ($0 + $1) / 2", a => ((long)a[0] + (long)a[1]) * 0.5, "halve the sum, not as an integer"),
        new("rectangle area", ["the area of a rectangle with sides $0 and $1"], s_two, Sort.Int, "return $0 * $1;", "return $0 * $1", a => (long)a[0] * (long)a[1], "multiply the sides"),
        new("rectangle perimeter", ["the perimeter of a rectangle with sides $0 and $1"], s_two, Sort.Int, "return 2 * ($0 + $1);", "return 2 * ($0 + $1)", a => (long)a[0] + (long)a[0] + (long)a[1] + (long)a[1], "double the sum of the sides"),
        new("has same sign", ["$0 and $1 have the same sign"], s_two, Sort.Bool, "return Math.Sign($0) == Math.Sign($1);", "return ($0 > 0) == ($1 > 0) and ($0 < 0) == ($1 < 0)", a => ((long)a[0]).CompareTo(0) == ((long)a[1]).CompareTo(0), "compare the signs"),
        new("is divisible", ["$0 is divisible by $1"], s_two, Sort.Bool, "return $0 % $1 == 0;", "return $0 % $1 == 0", a => (long)a[0] / (long)a[1] * (long)a[1] == (long)a[0], "check the remainder") { Arguments = d => [(long)d.Between(0, 60), (long)d.Between(1, 9)] },
        new("power of", ["$0 raised to the power $1"], s_two, Sort.Int, "int result = 1;\nfor (int i = 0; i < $1; i++)\n    result *= $0;\nreturn result;", "return $0 ** $1", a => { long p = 1; for (long i = 0; i < (long)a[1]; i++) p *= (long)a[0]; return p; }, "multiply as often as the exponent says") { Arguments = d => [(long)d.Between(-4, 9), (long)d.Between(0, 6)] },
        new("sign", ["the sign of $0: -1, 0 or 1"], s_number, Sort.Int, "if ($0 > 0)\n    return 1;\nreturn $0 < 0 ? -1 : 0;", "if $0 > 0:\n    return 1\nreturn -1 if $0 < 0 else 0", a => (long)((long)a[0]).CompareTo(0), "compare with zero"),
        new("absolute", ["the absolute value of $0"], s_number, Sort.Int, "return $0 < 0 ? -$0 : $0;", "return -$0 if $0 < 0 else $0", a => Math.Abs((long)a[0]), "flip the sign when it is negative"),
        new("clamped", ["$0 clamped to the range from $1 to $2", "$0 limited to the range from $1 to $2"], [("number", Sort.Int), ("first", Sort.Int), ("second", Sort.Int)], Sort.Int, "if ($0 < $1)\n    return $1;\nreturn $0 > $2 ? $2 : $0;", "return max($1, min($0, $2))", a => Math.Clamp((long)a[0], (long)a[1], (long)a[2]), "keep it between the two bounds") { Arguments = d => [(long)d.Between(-20, 40), (long)d.Between(-5, 5), (long)d.Between(6, 20)] },
        new("largest of three", ["the largest of $0, $1 and $2"], [("number", Sort.Int), ("first", Sort.Int), ("second", Sort.Int)], Sort.Int, "return Math.Max($0, Math.Max($1, $2));", "return max($0, $1, $2)", a => a.Cast<long>().OrderBy(n => n).Last(), "take the larger twice"),
        new("smallest of three", ["the smallest of $0, $1 and $2"], [("number", Sort.Int), ("first", Sort.Int), ("second", Sort.Int)], Sort.Int, "return Math.Min($0, Math.Min($1, $2));", "return min($0, $1, $2)", a => a.Cast<long>().OrderBy(n => n).First(), "take the smaller twice"),
        new("is leap year", ["$0 is a leap year"], s_number, Sort.Bool, "return $0 % 4 == 0 && ($0 % 100 != 0 || $0 % 400 == 0);", "return $0 % 4 == 0 and ($0 % 100 != 0 or $0 % 400 == 0)", a => DateTime.IsLeapYear((int)(long)a[0]), "by 4, but not by 100 unless by 400") { Arguments = d => [(long)d.Pick(1900, 2000, 2004, 2023, 2024, 2100, 1999, 2400)] },
        new("fizz buzz", ["\"Fizz\" if $0 is divisible by 3, \"Buzz\" if by 5, \"FizzBuzz\" if by both, else the number as a string"], s_number, Sort.Text, "if ($0 % 15 == 0)\n    return \"FizzBuzz\";\nif ($0 % 3 == 0)\n    return \"Fizz\";\nreturn $0 % 5 == 0 ? \"Buzz\" : $0.ToString();", "if $0 % 15 == 0:\n    return \"FizzBuzz\"\nif $0 % 3 == 0:\n    return \"Fizz\"\nreturn \"Buzz\" if $0 % 5 == 0 else str($0)", a => ((long)a[0] % 3, (long)a[0] % 5) switch { (0, 0) => "FizzBuzz", (0, _) => "Fizz", (_, 0) => "Buzz", _ => ((long)a[0]).ToString() }, "test both first, then 3, then 5") { Arguments = d => [(long)d.Between(1, 45)] },
        new("celsius to fahrenheit", ["$0 degrees Celsius in Fahrenheit"], [("number", Sort.Double)], Sort.Double, "return $0 * 9 / 5 + 32;", "return $0 * 9 / 5 + 32", a => 1.8 * (double)a[0] + 32, "multiply by 9/5 and add 32"),
        new("fahrenheit to celsius", ["$0 degrees Fahrenheit in Celsius"], [("number", Sort.Double)], Sort.Double, "return ($0 - 32) * 5 / 9;", "return ($0 - 32) * 5 / 9", a => ((double)a[0] - 32) / 1.8, "subtract 32 and multiply by 5/9"),
        new("hours to minutes", ["the minutes in $0 hours"], s_number, Sort.Int, "return $0 * 60;", "return $0 * 60", a => 60 * (long)a[0], "multiply by 60"),
        new("days to hours", ["the hours in $0 days"], s_number, Sort.Int, "return $0 * 24;", "return $0 * 24", a => 24 * (long)a[0], "multiply by 24"),
        new("percentage", ["what percentage $0 is of $1"], [("first", Sort.Double), ("second", Sort.Double)], Sort.Double, "return $0 / $1 * 100;", "return $0 / $1 * 100", a => 100 * (double)a[0] / (double)a[1], "divide and multiply by 100") { Arguments = d => [d.Between(0, 50) / 2.0, d.Between(1, 40) / 2.0] },
        new("hypotenuse", ["the hypotenuse of a right triangle with legs $0 and $1"], [("first", Sort.Double), ("second", Sort.Double)], Sort.Double, "return Math.Sqrt($0 * $0 + $1 * $1);", "return ($0 ** 2 + $1 ** 2) ** 0.5", a => double.Hypot((double)a[0], (double)a[1]), "take the root of the sum of the squares"),
        new("countdown", ["a list of the numbers from $0 down to 1"], s_number, Sort.Ints, "return Enumerable.Range(1, $0).Reverse().TYPE();", "return list(range($0, 0, -1))", a => Series((long)a[0], i => (long)a[0] - i), "count down from it") { Arguments = d => [(long)d.Between(0, 9)] },
        new("count up", ["a list of the numbers from 1 to $0"], s_number, Sort.Ints, "return Enumerable.Range(1, $0).TYPE();", "return list(range(1, $0 + 1))", a => Series((long)a[0], i => i + 1), "count up to it") { Arguments = d => [(long)d.Between(0, 9)] },
        new("times table", ["the first ten multiples of $0", "the multiples of $0 from 1 to 10 times"], s_number, Sort.Ints, "return Enumerable.Range(1, 10).Select(i => i * $0).TYPE();", "return [i * $0 for i in range(1, 11)]", a => Series(10, i => (i + 1) * (long)a[0]), "multiply it by 1 to 10"),
        new("has element", ["$0 contains $1", "$1 occurs in $0"], s_listAndItem, Sort.Bool, "return $0.Contains($1);", "return $1 in $0", a => Array.IndexOf((long[])a[0], (long)a[1]) >= 0, "search for it") { Arguments = Item },
        new("index of", ["the index of $1 in $0, or -1 if it is not there"], s_listAndItem, Sort.Int, "for (int i = 0; i < #0; i++)\n{\n    if ($0[i] == $1)\n        return i;\n}\nreturn -1;", "return $0.index($1) if $1 in $0 else -1", a => (long)Array.IndexOf((long[])a[0], (long)a[1]), "go through the positions in order") { Arguments = Item },
        new("occurrences", ["how often $1 occurs in $0", "the number of times $1 occurs in $0"], s_listAndItem, Sort.Int, "return $0.Count(x => x == $1);", "return $0.count($1)", a => (long)((long[])a[0]).Where(x => x == (long)a[1]).Count(), "count the equal elements") { Arguments = Item },
        new("without value", ["$0 without any $1", "$0 with all occurrences of $1 removed"], s_listAndItem, Sort.Ints, "return $0.Where(x => x != $1).TYPE();", "return [x for x in $0 if x != $1]", a => ((long[])a[0]).Except([(long)a[1]]).SelectMany(x => ((long[])a[0]).Where(y => y == x)).OrderBy(x => Array.IndexOf((long[])a[0], x)).ToArray(), "keep what differs") { Arguments = d => [Enumerable.Range(0, 6).Select(i => (long)(i + d.Between(0, 2) * 10)).Distinct().ToArray(), (long)d.Between(0, 15)] },
        new("first elements", ["the first $1 elements of $0"], s_listAndCount, Sort.Ints, "return $0.Take($1).TYPE();", "return $0[:$1]", a => ((long[])a[0])[..(int)Math.Min((long)a[1], ((long[])a[0]).Length)], "take from the front") { Arguments = Counted },
        new("last elements", ["the last $1 elements of $0"], s_listAndCount, Sort.Ints, "return $0.TakeLast($1).TYPE();", "return $0[-$1:] if $1 > 0 else []", a => ((long[])a[0])[^(int)Math.Min((long)a[1], ((long[])a[0]).Length)..], "take from the end") { Arguments = Counted },
        new("skip elements", ["$0 without its first $1 elements"], s_listAndCount, Sort.Ints, "return $0.Skip($1).TYPE();", "return $0[$1:]", a => ((long[])a[0])[(int)Math.Min((long)a[1], ((long[])a[0]).Length)..], "skip the front") { Arguments = Counted },
        new("is sorted", ["$0 is sorted in ascending order"], s_list, Sort.Bool, "for (int i = 1; i < #0; i++)\n{\n    if ($0[i] < $0[i - 1])\n        return false;\n}\nreturn true;", "return all($0[i - 1] <= $0[i] for i in range(1, len($0)))", a => ((long[])a[0]).OrderBy(x => x).SequenceEqual((long[])a[0]), "compare each with the one before") { Arguments = d => [d.Chance(50) ? [1L, d.Between(1, 3), d.Between(3, 5), d.Between(4, 6)] : Some(d)] },
        new("has duplicates", ["$0 contains any duplicates"], s_list, Sort.Bool, "return $0.Distinct().Count() != #0;", "return len(set($0)) != len($0)", a => ((long[])a[0]).GroupBy(x => x).Any(g => g.Count() > 1), "compare with the number of distinct elements"),
        new("running sums", ["the running sums of $0", "the cumulative sums of $0"], s_list, Sort.Ints, "int total = 0;\nreturn $0.Select(x => total += x).TYPE();", "result = []\ntotal = 0\nfor x in $0:\n    total += x\n    result.append(total)\nreturn result", a => Series(((long[])a[0]).Length, i => ((long[])a[0])[..((int)i + 1)].Sum()), "carry the total along"),
        new("rotated left", ["$0 rotated left by one position"], s_list, Sort.Ints, "return $0.Skip(1).Concat($0.Take(1)).TYPE();", "return $0[1:] + $0[:1]", a => Series(((long[])a[0]).Length, i => ((long[])a[0])[(int)(i + 1) % ((long[])a[0]).Length]), "move the first to the end"),
        new("differences", ["the differences between neighbours in $0"], s_list, Sort.Ints, "return $0.Zip($0.Skip(1), (x, y) => y - x).TYPE();", "return [y - x for x, y in zip($0, $0[1:])]", a => Series(Math.Max(0, ((long[])a[0]).Length - 1), i => ((long[])a[0])[(int)i + 1] - ((long[])a[0])[(int)i]), "subtract each from the next"),
        new("most frequent", ["the most frequent element of $0"], s_list, Sort.Int, "return $0.GroupBy(x => x).OrderByDescending(g => g.Count()).First().Key;", "return max($0, key=$0.count)", a => ((long[])a[0]).MaxBy(x => ((long[])a[0]).Count(y => y == x)), "group equal elements and take the largest group") { Arguments = d => [new long[] { d.Below(4), 7, d.Below(4), 7, 7, d.Below(9) }] },
        new("median", ["the median of $0, which has an odd number of elements"], s_list, Sort.Int, "return $0.Order().ElementAt(#0 / 2);", "return sorted($0)[len($0) // 2]", a => ((long[])a[0]).OrderByDescending(x => x).ElementAt(((long[])a[0]).Length / 2), "sort them and take the middle") { Arguments = d => [Enumerable.Range(0, d.Pick(1, 3, 5, 7)).Select(_ => (long)d.Between(-9, 30)).ToArray()] },
        new("even positions", ["the elements of $0 at even positions", "every second element of $0, from the first on"], s_list, Sort.Ints, "return $0.Where((x, i) => i % 2 == 0).TYPE();", "return $0[::2]", a => Series((((long[])a[0]).Length + 1) / 2, i => ((long[])a[0])[2 * (int)i]), "keep the positions divisible by 2"),
        new("dot product", ["the dot product of $0 and $1"], s_twoLists, Sort.Int, "return $0.Zip($1, (x, y) => x * y).Sum();", "return sum(x * y for x, y in zip($0, $1))", a => Enumerable.Range(0, ((long[])a[0]).Length).Sum(i => ((long[])a[0])[i] * ((long[])a[1])[i]), "multiply pairwise and add") { Arguments = Pair },
        new("pairwise sums", ["the sums of the pairs of $0 and $1"], s_twoLists, Sort.Ints, "return $0.Zip($1, (x, y) => x + y).TYPE();", "return [x + y for x, y in zip($0, $1)]", a => Series(((long[])a[0]).Length, i => ((long[])a[0])[i] + ((long[])a[1])[i]), "add them pairwise") { Arguments = Pair },
        new("common elements", ["the elements that $0 and $1 have in common"], s_twoLists, Sort.Ints, "return $0.Intersect($1).TYPE();", "return [x for x in dict.fromkeys($0) if x in $1]", a => ((long[])a[0]).Distinct().Where(x => Array.IndexOf((long[])a[1], x) >= 0).ToArray(), "keep what occurs in both") { Arguments = Pair },
        new("joined lists", ["$0 followed by $1 as one list"], s_twoLists, Sort.Ints, "return $0.Concat($1).TYPE();", "return $0 + $1", a => new[] { (long[])a[0], (long[])a[1] }.SelectMany(x => x).ToArray(), "append the second to the first") { Arguments = Pair },
        new("flattened", ["$0 flattened into one list", "all elements of the lists in $0"], [("numbers", Sort.IntRows)], Sort.Ints, "return $0.SelectMany(row => row).TYPE();", "return [x for row in $0 for x in row]", a => ((long[][])a[0]).Aggregate(Array.Empty<long>(), (x, y) => [.. x, .. y]), "go through each inner list") { Arguments = Rows },
        new("row sums", ["the sum of each list in $0"], [("numbers", Sort.IntRows)], Sort.Ints, "return $0.Select(row => row.Sum()).TYPE();", "return [sum(row) for row in $0]", a => Series(((long[][])a[0]).Length, i => ((long[][])a[0])[i].Sum()), "add up each inner list") { Arguments = Rows },
        new("title case", ["$0 with the first letter of each word in upper case"], s_text, Sort.Text, "return string.Join(\" \", $0.Split(' ').Select(w => char.ToUpper(w[0]) + w.Substring(1)));", "return \" \".join(w[0].upper() + w[1:] for w in $0.split())", a => string.Join(' ', ((string)a[0]).Split(' ').Select(w => w[..1].ToUpperInvariant() + w[1..])), "split, raise each first letter, join") { Arguments = Sentence },
        new("capitalized", ["$0 with its first letter in upper case"], s_text, Sort.Text, "return char.ToUpper($0[0]) + $0.Substring(1);", "return $0[0].upper() + $0[1:]", a => ((string)a[0])[..1].ToUpperInvariant() + ((string)a[0])[1..], "raise the first letter and append the rest") { Arguments = Sentence },
        new("initials", ["the initials of $0", "the first letters of the words of $0 as one string"], s_text, Sort.Text, "return string.Concat($0.Split(' ').Select(w => w[0]));", "return \"\".join(w[0] for w in $0.split())", a => ((string)a[0]).Split(' ').Aggregate("", (t, w) => t + w[0]), "take the first letter of each word") { Arguments = Sentence },
        new("reversed words", ["$0 with its words in reverse order"], s_text, Sort.Text, "return string.Join(\" \", $0.Split(' ').Reverse());", "return \" \".join($0.split()[::-1])", a => ((string)a[0]).Split(' ').Aggregate("", (t, w) => t.Length == 0 ? w : w + " " + t), "split, reverse, join") { Arguments = Sentence },
        new("last word", ["the last word of $0"], s_text, Sort.Text, "return $0.Split(' ').Last();", "return $0.split()[-1]", a => ((string)a[0])[(((string)a[0]).LastIndexOf(' ') + 1)..], "split and take the last") { Arguments = Sentence },
        new("swapped case", ["$0 with upper and lower case swapped"], s_text, Sort.Text, "return new string($0.Select(c => char.IsUpper(c) ? char.ToLower(c) : char.ToUpper(c)).ToArray());", "return $0.swapcase()", a => string.Concat(((string)a[0]).Select(c => char.IsAsciiLetter(c) ? (char)(c ^ 32) : c)), "flip the case of each character") { Arguments = Sentence },
        new("middle character", ["the middle character of $0 as a string"], s_text, Sort.Text, "return $0[$0.Length / 2].ToString();", "return $0[len($0) // 2]", a => ((string)a[0]).Substring(((string)a[0]).Length / 2, 1), "index at half the length") { Arguments = Sentence },
        new("are anagrams", ["$0 and $1 are anagrams"], [("text", Sort.Text), ("second", Sort.Text)], Sort.Bool, "return $0.Order().SequenceEqual($1.Order());", "return sorted($0) == sorted($1)", a => Counts((string)a[0]).SequenceEqual(Counts((string)a[1])), "compare the sorted letters") { Arguments = d => [d.Pick("listen", "abc", "tea"), d.Pick("silent", "cab", "eat", "ate", "abd")] },
        new("repeated text", ["$0 repeated $1 times"], [("text", Sort.Text), ("count", Sort.Int)], Sort.Text, "return string.Concat(Enumerable.Repeat($0, $1));", "return $0 * $1", a => { string t = ""; for (long i = 0; i < (long)a[1]; i++) t += a[0]; return t; }, "write it as often as asked") { Arguments = d => [d.Pick("ab", "x", "hello "), (long)d.Between(0, 4)] },
        new("shortened text", ["the first $1 characters of $0"], [("text", Sort.Text), ("count", Sort.Int)], Sort.Text, "return $0.Length <= $1 ? $0 : $0.Substring(0, $1);", "return $0[:$1]", a => string.Concat(((string)a[0]).Take((int)(long)a[1])), "cut it when it is longer") { Arguments = d => [d.Pick("hello world", "ab", "banana"), (long)d.Between(0, 8)] },
        new("is ending", ["$0 ends with $1"], [("text", Sort.Text), ("second", Sort.Text)], Sort.Bool, "return $0.EndsWith($1);", "return $0.endswith($1)", a => ((string)a[0]).LastIndexOf((string)a[1], StringComparison.Ordinal) == ((string)a[0]).Length - ((string)a[1]).Length && ((string)a[0]).Length >= ((string)a[1]).Length, "compare the end") { Arguments = d => [d.Pick("walking", "car", "sing"), d.Pick("ing", "ar", "walk", "g")] },
        new("is containing", ["$0 contains $1"], [("text", Sort.Text), ("second", Sort.Text)], Sort.Bool, "return $0.Contains($1);", "return $1 in $0", a => ((string)a[0]).IndexOf((string)a[1], StringComparison.Ordinal) >= 0, "search for it") { Arguments = d => [d.Pick("walking", "car", "sing"), d.Pick("ing", "ar", "walk", "x")] },
        new("text lengths", ["the lengths of the strings in $0"], [("words", Sort.Texts)], Sort.Ints, "return $0.Select(w => w.Length).TYPE();", "return [len(w) for w in $0]", a => Series(((string[])a[0]).Length, i => ((string[])a[0])[i].Length), "take the length of each"),
    ];

    // The names of all tasks, for whoever checks that each is met.
    public static IEnumerable<string> Keys => s_tasks.Select(Key);

    public static Routine Draw(Dice dice, Split split, Language language)
    {
        Task task = dice.Pick(s_tasks);
        Holder holder = dice.Pick(Holder.Array, Holder.List);
        Holder many = dice.Chance(60) ? Holder.List : Holder.Array;
        var parameters = new List<Parameter>();
        foreach ((string pool, Sort sort) in task.Parameters)
            parameters.Add(new Parameter(Names.Parameter(dice, split, pool, [.. parameters.Select(parameter => parameter.Name), "x", "i", "y", "w", "total", "result", "multiple"]), sort, holder));
        string body = language == Language.CSharp ? task.CSharp : task.Python;
        for (int i = 0; i < parameters.Count; i++)
            body = body.Replace("#" + i, parameters[i].Name + (holder == Holder.List ? ".Count" : ".Length"), StringComparison.Ordinal).Replace("$" + i, parameters[i].Name, StringComparison.Ordinal);
        return new Routine
        {
            Key = Key(task),
            PartCount = 1,
            Language = language,
            Parameters = parameters,
            Result = task.Result,
            ResultHolder = many,
            Phrase = dice.Pick(task.Phrases),
            Plan = task.Plan,
            Body = body.Replace("TYPE()", many == Holder.List ? "ToList()" : "ToArray()", StringComparison.Ordinal),
            Name = Names.Function(dice, split, task.Name),
            Evaluate = task.Evaluate,
            Arguments = task.Arguments ?? (inner => [.. task.Parameters.Select(parameter => Any(inner, parameter.Sort))]),
        };
    }

    private static string Key(Task task) => $"task({task.Name})";

    private static object Any(Dice dice, Sort sort) => sort switch
    {
        Sort.Int => (long)dice.Between(-20, 60),
        Sort.Double => dice.Between(-40, 120) / 2.0,
        Sort.Texts => new[] { dice.Pick("a", "bird", "Cat"), dice.Pick("door", ""), dice.Pick("engine", "fly") },
        _ => Some(dice),
    };

    private static long[] Some(Dice dice) => [.. Enumerable.Range(0, dice.Between(1, 7)).Select(_ => (long)dice.Between(-6, 20))];

    private static object[] Item(Dice dice) => [Some(dice), (long)dice.Between(-6, 20)];

    private static object[] Counted(Dice dice) => [Some(dice), (long)dice.Between(0, 5)];

    private static object[] Pair(Dice dice)
    {
        long[] first = Some(dice);
        return [first, first.Select(x => dice.Chance(30) ? x : dice.Between(-6, 20)).ToArray()];
    }

    private static object[] Rows(Dice dice) => [Enumerable.Range(0, dice.Between(1, 3)).Select(_ => Some(dice)).ToArray()];

    private static object[] Sentence(Dice dice) => [dice.Pick("hello world", "the quick fox", "Open Source", "a b c", "small", "read this book now", "Go Home")];

    private static long[] Series(long count, Func<long, long> value)
    {
        var series = new long[count];
        for (long i = 0; i < count; i++)
            series[i] = value(i);
        return series;
    }

    private static int[] Counts(string text) => [.. Enumerable.Range('a', 26).Select(letter => text.Count(c => c == letter))];

    private static long Gcd(long a, long b) => Enumerable.Range(1, (int)Math.Min(a, b)).Last(d => a % d == 0 && b % d == 0);
}
