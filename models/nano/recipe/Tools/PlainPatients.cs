namespace Qian.Nano;

// Short programs without a common form, each with the bugs that it can have.
internal static class PlainPatients
{
    // Fragments that differ between the languages are given twice.
    private sealed record Bug(string Kind, string Right, string Wrong, string Reason, Func<object[], object> Behaves, string? PythonRight = null, string? PythonWrong = null);

    private sealed record Program(string Name, (string Pool, Sort Sort)[] Parameters, Sort Result, string CSharp, string Python, Func<object[], object> Evaluate, Func<Dice, object[]> Arguments, Bug[] Bugs);

    private static readonly (string, Sort)[] s_two = [("first", Sort.Int), ("second", Sort.Int)];
    private static readonly (string, Sort)[] s_number = [("number", Sort.Int)];
    private static readonly (string, Sort)[] s_texts = [("first", Sort.Text), ("second", Sort.Text)];

    private static readonly Program[] s_programs =
    [
        new("area", s_two, Sort.Int, "return $0 * $1;", "return $0 * $1", a => N(a, 0) * N(a, 1), TwoNumbers,
            [new("operator", "*", "+", "it adds the sides instead of multiplying them", a => N(a, 0) + N(a, 1)), new("argument", "$0 * $1", "$0 * $0", "it uses the first side twice", a => N(a, 0) * N(a, 0))]),
        new("perimeter", s_two, Sort.Int, "return 2 * ($0 + $1);", "return 2 * ($0 + $1)", a => 2 * (N(a, 0) + N(a, 1)), TwoNumbers,
            [new("brackets", "($0 + $1)", "$0 + $1", "the brackets around the sum are missing", a => 2 * N(a, 0) + N(a, 1)), new("operator", "$0 + $1", "$0 * $1", "it multiplies the sides instead of adding them", a => 2 * N(a, 0) * N(a, 1))]),
        new("difference", s_two, Sort.Int, "return $0 - $1;", "return $0 - $1", a => N(a, 0) - N(a, 1), TwoNumbers,
            [new("swapped", "$0 - $1", "$1 - $0", "the operands are swapped", a => N(a, 1) - N(a, 0)), new("operator", "-", "+", "it adds instead of subtracting", a => N(a, 0) + N(a, 1))]),
        new("larger", s_two, Sort.Int, "if ($0 > $1)\n    return $0;\nreturn $1;", "if $0 > $1:\n    return $0\nreturn $1", a => Math.Max(N(a, 0), N(a, 1)), TwoNumbers,
            [new("comparison", ">", "<", "the comparison is the wrong way round", a => Math.Min(N(a, 0), N(a, 1)))]),
        new("smaller", s_two, Sort.Int, "if ($0 < $1)\n    return $0;\nreturn $1;", "if $0 < $1:\n    return $0\nreturn $1", a => Math.Min(N(a, 0), N(a, 1)), TwoNumbers,
            [new("comparison", "<", ">", "the comparison is the wrong way round", a => Math.Max(N(a, 0), N(a, 1)))]),
        new("is even", s_number, Sort.Bool, "return $0 % 2 == 0;", "return $0 % 2 == 0", a => N(a, 0) % 2 == 0, d => [(long)d.Between(0, 30)],
            [new("comparison", "==", "!=", "it is true for odd numbers", a => N(a, 0) % 2 != 0), new("constant", "% 2", "% 3", "it takes the remainder by 3 instead of 2", a => N(a, 0) % 3 == 0)]),
        new("is adult", s_number, Sort.Bool, "return $0 >= 18;", "return $0 >= 18", a => N(a, 0) >= 18, d => [d.Pick(17L, 18L, 18L, 19L, 3L, 40L)],
            [new("comparison", ">=", ">", "it leaves out 18 itself", a => N(a, 0) > 18), new("direction", ">=", "<=", "the comparison is the wrong way round", a => N(a, 0) <= 18)]),
        new("factorial", s_number, Sort.Int, "int product = 1;\nfor (int i = 2; i <= $0; i++)\n    product *= i;\nreturn product;", "product = 1\nfor i in range(2, $0 + 1):\n    product *= i\nreturn product", a => Factorial(N(a, 0)), d => [(long)d.Between(1, 7)],
            [new("init", "product = 1", "product = 0", "product starts at 0 instead of 1", a => 0L), new("bound", "<=", "<", "the loop leaves out the number itself", a => Factorial(N(a, 0) - 1), "$0 + 1", "$0"), new("operator", "*=", "+=", "it adds instead of multiplying", a => 1 + N(a, 0) * (N(a, 0) + 1) / 2 - 1)]),
        new("sum to", s_number, Sort.Int, "int total = 0;\nfor (int i = 1; i <= $0; i++)\n    total += i;\nreturn total;", "total = 0\nfor i in range(1, $0 + 1):\n    total += i\nreturn total", a => N(a, 0) * (N(a, 0) + 1) / 2, d => [(long)d.Between(1, 12)],
            [new("bound", "<=", "<", "the loop leaves out the last number", a => N(a, 0) * (N(a, 0) - 1) / 2, "$0 + 1", "$0"), new("init", "total = 0", "total = 1", "total starts at 1 instead of 0", a => 1 + N(a, 0) * (N(a, 0) + 1) / 2)]),
        new("power", s_two, Sort.Int, "int power = 1;\nfor (int i = 0; i < $1; i++)\n    power *= $0;\nreturn power;", "power = 1\nfor i in range($1):\n    power *= $0\nreturn power", a => Power(N(a, 0), N(a, 1)), d => [(long)d.Between(2, 6), (long)d.Between(0, 4)],
            [new("init", "power = 1", "power = 0", "power starts at 0 instead of 1", a => 0L), new("operator", "*=", "+=", "it adds instead of multiplying", a => 1 + N(a, 0) * N(a, 1)), new("argument", "*= $0", "*= $1", "it multiplies by the exponent instead of the number", a => Power(N(a, 1), N(a, 1)))]),
        new("seconds", [("first", Sort.Int), ("second", Sort.Int)], Sort.Int, "return $0 * 60 + $1;", "return $0 * 60 + $1", a => N(a, 0) * 60 + N(a, 1), TwoNumbers,
            [new("constant", "60", "100", "a minute has 60 seconds, not 100", a => N(a, 0) * 100 + N(a, 1)), new("swapped", "$0 * 60 + $1", "$1 * 60 + $0", "minutes and seconds are swapped", a => N(a, 1) * 60 + N(a, 0))]),
        new("discounted", [("first", Sort.Int), ("second", Sort.Int)], Sort.Int, "return $0 - $0 * $1 / 100;", "return $0 - $0 * $1 // 100", a => N(a, 0) - N(a, 0) * N(a, 1) / 100, d => [100L * d.Between(1, 9), 10L * d.Between(1, 8)],
            [new("operator", "$0 - $0", "$0 + $0", "it adds the discount instead of subtracting it", a => N(a, 0) + N(a, 0) * N(a, 1) / 100), new("constant", "100", "10", "a percentage is divided by 100, not 10", a => N(a, 0) - N(a, 0) * N(a, 1) / 10)]),
        new("absolute", s_number, Sort.Int, "if ($0 < 0)\n    return -$0;\nreturn $0;", "if $0 < 0:\n    return -$0\nreturn $0", a => Math.Abs(N(a, 0)), d => [(long)d.Between(-9, 9)],
            [new("comparison", "<", ">", "the comparison is the wrong way round", a => -Math.Abs(N(a, 0))), new("sign", "-$0", "$0", "the minus sign is missing", a => a[0])]),
        new("clamped", [("number", Sort.Int), ("first", Sort.Int), ("second", Sort.Int)], Sort.Int, "if ($0 < $1)\n    return $1;\nif ($0 > $2)\n    return $2;\nreturn $0;", "if $0 < $1:\n    return $1\nif $0 > $2:\n    return $2\nreturn $0", a => Math.Clamp(N(a, 0), N(a, 1), N(a, 2)), d => [(long)d.Between(-9, 25), (long)d.Between(0, 4), (long)d.Between(8, 15)],
            [new("return", "return $2", "return $1", "above the upper bound it returns the lower one", a => N(a, 0) < N(a, 1) || N(a, 0) > N(a, 2) ? a[1] : a[0])]),
        new("full name", s_texts, Sort.Text, "return $0 + \" \" + $1;", "return $0 + \" \" + $1", a => $"{a[0]} {a[1]}", TwoTexts,
            [new("swapped", "$0 + \" \" + $1", "$1 + \" \" + $0", "first and last are swapped", a => $"{a[1]} {a[0]}"), new("constant", "\" \"", "\"\"", "the space between is missing", a => $"{a[0]}{a[1]}")]),
        new("greeting", [("text", Sort.Text)], Sort.Text, "return \"Hello, \" + $0 + \"!\";", "return \"Hello, \" + $0 + \"!\"", a => $"Hello, {a[0]}!", d => [d.Pick("Ann", "Bo", "Lea", "Max", "Ida")],
            [new("missing", " + \"!\"", "", "the mark at the end is missing", a => $"Hello, {a[0]}"), new("constant", "\"Hello, \"", "\"Hello,\"", "the space behind the comma is missing", a => $"Hello,{a[0]}!")]),
        new("last element", [("numbers", Sort.Ints)], Sort.Int, "return $0[$0.Length - 1];", "return $0[len($0) - 1]", a => L(a)[^1], Items,
            [new("index", "- 1", "- 2", "it takes the element before the last", a => L(a).Length < 2 && true ? throw new IndexOutOfRangeException() : L(a)[^2]), new("bound", " - 1", "", "the index is one past the end", a => throw new IndexOutOfRangeException())]),
        new("first element", [("numbers", Sort.Ints)], Sort.Int, "return $0[0];", "return $0[0]", a => L(a)[0], Items,
            [new("index", "[0]", "[1]", "the first element has index 0, not 1", a => L(a).Length < 2 ? throw new IndexOutOfRangeException() : L(a)[1])]),
        new("is contained", [("numbers", Sort.Ints), ("item", Sort.Int)], Sort.Bool, "for (int i = 0; i < $0.Length; i++)\n{\n    if ($0[i] == $1)\n        return true;\n}\nreturn false;", "for i in range(len($0)):\n    if $0[i] == $1:\n        return True\nreturn False", a => Array.IndexOf(L(a), N(a, 1)) >= 0, d => [(long[])Items(d)[0], (long)d.Between(0, 9)],
            [new("comparison", "==", "!=", "the comparison must be for equality", a => L(a).Any(x => x != N(a, 1))), new("return", "return false", "return true", "it returns true when nothing was found", a => true, "return False", "return True")]),
        new("index of", [("numbers", Sort.Ints), ("item", Sort.Int)], Sort.Int, "for (int i = 0; i < $0.Length; i++)\n{\n    if ($0[i] == $1)\n        return i;\n}\nreturn -1;", "for i in range(len($0)):\n    if $0[i] == $1:\n        return i\nreturn -1", a => (long)Array.IndexOf(L(a), N(a, 1)), d => [(long[])Items(d)[0], (long)d.Between(0, 9)],
            [new("return", "return -1", "return 0", "it returns 0 instead of -1 when nothing was found", a => (long)Math.Max(0, Array.IndexOf(L(a), N(a, 1)))), new("start", "i = 0", "i = 1", "the loop starts at 1 and skips the first element", a => (long)Array.IndexOf(L(a), N(a, 1), 1), "range(len($0))", "range(1, len($0))")]),
        new("in fahrenheit", s_number, Sort.Int, "return $0 * 9 / 5 + 32;", "return $0 * 9 // 5 + 32", a => N(a, 0) * 9 / 5 + 32, d => [5L * d.Between(0, 20)],
            [new("operator", "+ 32", "- 32", "32 must be added, not subtracted", a => N(a, 0) * 9 / 5 - 32), new("constant", "9 / 5", "5 / 9", "the ratio is 9/5, not 5/9", a => N(a, 0) * 5 / 9 + 32, "9 // 5", "5 // 9")]),
        new("total price", s_two, Sort.Int, "return $0 * $1;", "return $0 * $1", a => N(a, 0) * N(a, 1), TwoNumbers,
            [new("operator", "*", "+", "price and count must be multiplied, not added", a => N(a, 0) + N(a, 1)), new("sign", "$0 * $1", "$0 - $1", "price and count must be multiplied, not subtracted", a => N(a, 0) - N(a, 1))]),
        new("profit", s_two, Sort.Int, "return $0 - $1;", "return $0 - $1", a => N(a, 0) - N(a, 1), TwoNumbers,
            [new("operator", "-", "+", "the costs must be subtracted, not added", a => N(a, 0) + N(a, 1)), new("swapped", "$0 - $1", "$1 - $0", "the operands are swapped", a => N(a, 1) - N(a, 0))]),
        new("remaining", s_two, Sort.Int, "return $0 - $1;", "return $0 - $1", a => N(a, 0) - N(a, 1), TwoNumbers,
            [new("operator", "-", "+", "what is used must be subtracted, not added", a => N(a, 0) + N(a, 1)), new("product", "-", "*", "it multiplies instead of subtracting", a => N(a, 0) * N(a, 1))]),
        new("added", s_two, Sort.Int, "return $0 + $1;", "return $0 + $1", a => N(a, 0) + N(a, 1), TwoNumbers,
            [new("operator", "+", "-", "it subtracts instead of adding", a => N(a, 0) - N(a, 1)), new("product", "+", "*", "it multiplies instead of adding", a => N(a, 0) * N(a, 1)), new("argument", "$0 + $1", "$0 + $0", "it adds the first number twice", a => 2 * N(a, 0))]),
        new("average of two", s_two, Sort.Int, "return ($0 + $1) / 2;", "return ($0 + $1) // 2", a => (N(a, 0) + N(a, 1)) / 2, TwoNumbers,
            [new("brackets", "($0 + $1)", "$0 + $1", "the brackets around the sum are missing", a => N(a, 0) + N(a, 1) / 2), new("operator", "/ 2", "* 2", "the sum must be divided by 2, not multiplied", a => (N(a, 0) + N(a, 1)) * 2, "// 2", "* 2"), new("constant", "/ 2", "/ 3", "the sum of two numbers is divided by 2, not 3", a => (N(a, 0) + N(a, 1)) / 3)]),
        new("doubled", s_number, Sort.Int, "return $0 * 2;", "return $0 * 2", a => N(a, 0) * 2, OneNumber,
            [new("operator", "* 2", "+ 2", "it adds 2 instead of multiplying by 2", a => N(a, 0) + 2), new("constant", "* 2", "* 3", "double means times 2, not times 3", a => N(a, 0) * 3)]),
        new("squared", s_number, Sort.Int, "return $0 * $0;", "return $0 * $0", a => N(a, 0) * N(a, 0), OneNumber,
            [new("operator", "$0 * $0", "$0 + $0", "it adds instead of multiplying", a => N(a, 0) + N(a, 0)), new("constant", "$0 * $0", "$0 * 2", "a square is the number times itself, not times 2", a => N(a, 0) * 2)]),
        new("successor", s_number, Sort.Int, "return $0 + 1;", "return $0 + 1", a => N(a, 0) + 1, OneNumber,
            [new("operator", "+ 1", "- 1", "1 must be added, not subtracted", a => N(a, 0) - 1), new("constant", "+ 1", "+ 2", "it adds 2 instead of 1", a => N(a, 0) + 2)]),
        new("last digit", s_number, Sort.Int, "return $0 % 10;", "return $0 % 10", a => N(a, 0) % 10, d => [(long)d.Between(1, 999)],
            [new("operator", "%", "/", "it divides instead of taking the remainder", a => N(a, 0) / 10, "%", "//"), new("constant", "% 10", "% 100", "it takes the remainder by 100 instead of 10", a => N(a, 0) % 100)]),
        new("is odd", s_number, Sort.Bool, "return $0 % 2 != 0;", "return $0 % 2 != 0", a => N(a, 0) % 2 != 0, d => [(long)d.Between(0, 30)],
            [new("comparison", "!=", "==", "it is true for even numbers", a => N(a, 0) % 2 == 0), new("constant", "% 2", "% 3", "it takes the remainder by 3 instead of 2", a => N(a, 0) % 3 != 0)]),
        new("is positive", s_number, Sort.Bool, "return $0 > 0;", "return $0 > 0", a => N(a, 0) > 0, Signed,
            [new("direction", ">", "<", "it is true for negative numbers", a => N(a, 0) < 0), new("comparison", ">", ">=", "zero is not positive", a => N(a, 0) >= 0)]),
        new("is negative", s_number, Sort.Bool, "return $0 < 0;", "return $0 < 0", a => N(a, 0) < 0, Signed,
            [new("direction", "<", ">", "it is true for positive numbers", a => N(a, 0) > 0), new("comparison", "<", "<=", "zero is not negative", a => N(a, 0) <= 0)]),
        new("is zero", s_number, Sort.Bool, "return $0 == 0;", "return $0 == 0", a => N(a, 0) == 0, Signed,
            [new("comparison", "==", "!=", "it is true for every number but zero", a => N(a, 0) != 0), new("constant", "== 0", "== 1", "it compares with 1 instead of 0", a => N(a, 0) == 1)]),
        new("is multiple", s_two, Sort.Bool, "return $0 % $1 == 0;", "return $0 % $1 == 0", a => N(a, 0) % N(a, 1) == 0, d => [(long)d.Between(1, 30), (long)d.Between(2, 5)],
            [new("comparison", "==", "!=", "the remainder must be zero", a => N(a, 0) % N(a, 1) != 0), new("swapped", "$0 % $1", "$1 % $0", "the operands are swapped", a => N(a, 1) % N(a, 0) == 0)]),
        new("are equal", s_two, Sort.Bool, "return $0 == $1;", "return $0 == $1", a => N(a, 0) == N(a, 1), d => [(long)d.Between(1, 3), (long)d.Between(1, 3)],
            [new("comparison", "==", "!=", "the comparison must be for equality", a => N(a, 0) != N(a, 1)), new("argument", "== $1", "== $0", "it compares the first with itself", a => true)]),
        new("minutes", s_two, Sort.Int, "return $0 * 60 + $1;", "return $0 * 60 + $1", a => N(a, 0) * 60 + N(a, 1), TwoNumbers,
            [new("constant", "60", "24", "an hour has 60 minutes, not 24", a => N(a, 0) * 24 + N(a, 1)), new("operator", "+ $1", "- $1", "the minutes must be added, not subtracted", a => N(a, 0) * 60 - N(a, 1))]),
        new("in celsius", s_number, Sort.Int, "return ($0 - 32) * 5 / 9;", "return ($0 - 32) * 5 // 9", a => (N(a, 0) - 32) * 5 / 9, d => [32L + 9 * d.Between(0, 12)],
            [new("operator", "- 32", "+ 32", "32 must be subtracted, not added", a => (N(a, 0) + 32) * 5 / 9), new("constant", "5 / 9", "9 / 5", "the ratio is 5/9, not 9/5", a => (N(a, 0) - 32) * 9 / 5, "5 // 9", "9 // 5")]),
        new("sign", s_number, Sort.Int, "if ($0 > 0)\n    return 1;\nif ($0 < 0)\n    return -1;\nreturn 0;", "if $0 > 0:\n    return 1\nif $0 < 0:\n    return -1\nreturn 0", a => (long)Math.Sign(N(a, 0)), Signed,
            [new("return", "return 0", "return 1", "for zero it returns 1 instead of 0", a => N(a, 0) < 0 ? -1L : 1L), new("constant", "return -1", "return 1", "for negative numbers it returns 1 instead of -1", a => (long)Math.Abs(Math.Sign(N(a, 0))))]),
        new("has zero", [("numbers", Sort.Ints)], Sort.Bool, "for (int i = 0; i < $0.Length; i++)\n{\n    if ($0[i] == 0)\n        return true;\n}\nreturn false;", "for i in range(len($0)):\n    if $0[i] == 0:\n        return True\nreturn False", a => L(a).Contains(0), Items,
            [new("return", "return false", "return true", "it returns true when nothing was found", a => true, "return False", "return True"), new("comparison", "==", "!=", "the comparison must be for equality", a => L(a).Any(x => x != 0)), new("start", "i = 0", "i = 1", "the loop starts at 1 and skips the first element", a => L(a).Skip(1).Contains(0), "range(len($0))", "range(1, len($0))")]),
        new("are all positive", [("numbers", Sort.Ints)], Sort.Bool, "for (int i = 0; i < $0.Length; i++)\n{\n    if ($0[i] <= 0)\n        return false;\n}\nreturn true;", "for i in range(len($0)):\n    if $0[i] <= 0:\n        return False\nreturn True", a => L(a).All(x => x > 0), Items,
            [new("return", "return true", "return false", "it returns false when all are positive", a => false, "return True", "return False"), new("comparison", "<=", "<", "zero is not positive", a => L(a).All(x => x >= 0))]),
        new("number count", [("numbers", Sort.Ints), ("item", Sort.Int)], Sort.Int, "int count = 0;\nfor (int i = 0; i < $0.Length; i++)\n{\n    if ($0[i] == $1)\n        count += 1;\n}\nreturn count;", "count = 0\nfor i in range(len($0)):\n    if $0[i] == $1:\n        count += 1\nreturn count", a => (long)L(a).Count(x => x == N(a, 1)), d => [(long[])Items(d)[0], (long)d.Between(0, 9)],
            [new("comparison", "==", "!=", "the comparison must be for equality", a => (long)L(a).Count(x => x != N(a, 1))), new("init", "count = 0", "count = 1", "count starts at 1 instead of 0", a => 1L + L(a).Count(x => x == N(a, 1))), new("operator", "count += 1", "count -= 1", "it counts down instead of up", a => -(long)L(a).Count(x => x == N(a, 1)))]),
        new("smallest", [("numbers", Sort.Ints)], Sort.Int, "int best = $0[0];\nfor (int i = 1; i < $0.Length; i++)\n{\n    if ($0[i] < best)\n        best = $0[i];\n}\nreturn best;", "best = $0[0]\nfor i in range(1, len($0)):\n    if $0[i] < best:\n        best = $0[i]\nreturn best", a => L(a).Min(), Items,
            [new("comparison", "[i] <", "[i] >", "the comparison is the wrong way round", a => L(a).Max()), new("init", "best = $0[0]", "best = 0", "best must start with the first element, not 0", a => Math.Min(0, L(a).Min())), new("return", "return best", "return $0[0]", "it returns the first element instead of best", a => L(a)[0])]),
        new("repeated", [("text", Sort.Text), ("count", Sort.Int)], Sort.Text, "string line = \"\";\nfor (int i = 0; i < $1; i++)\n    line += $0;\nreturn line;", "line = \"\"\nfor i in range($1):\n    line += $0\nreturn line", a => string.Concat(Enumerable.Repeat((string)a[0], (int)N(a, 1))), d => [d.Pick("ab", "x", "no"), (long)d.Between(1, 4)],
            [new("operator", "line +=", "line =", "each turn replaces the line instead of extending it", a => a[0]), new("bound", "i < $1", "i <= $1", "the loop runs once too often", a => string.Concat(Enumerable.Repeat((string)a[0], (int)N(a, 1) + 1)), "range($1)", "range($1 + 1)")]),
    ];

    public static Patient Draw(Dice dice, Split split, Language language)
    {
        Program program = dice.Pick(s_programs);
        Bug bug = dice.Pick(program.Bugs);
        var parameters = new List<Parameter>();
        foreach ((string pool, Sort sort) in program.Parameters)
            parameters.Add(new Parameter(Names.Parameter(dice, split, pool, [.. parameters.Select(parameter => parameter.Name), "i", "line", "power", "product", "total", "best", "count"]), sort));
        bool isCSharp = language == Language.CSharp;
        string Fill(string code)
        {
            for (int i = 0; i < parameters.Count; i++)
                code = code.Replace("$" + i, parameters[i].Name, StringComparison.Ordinal);
            return code;
        }

        return new Patient
        {
            Key = program.Name,
            Bug = bug.Kind,
            Language = language,
            Name = Names.Function(dice, split, program.Name),
            Parameters = parameters,
            Result = program.Result,
            Body = Fill(isCSharp ? program.CSharp : program.Python),
            Right = Fill(isCSharp ? bug.Right : bug.PythonRight ?? bug.Right),
            Wrong = Fill(isCSharp ? bug.Wrong : bug.PythonWrong ?? bug.Wrong),
            Reason = bug.Reason,
            Evaluate = program.Evaluate,
            EvaluateWrong = bug.Behaves,
            Arguments = program.Arguments,
        };
    }

    private static long N(object[] arguments, int index) => (long)arguments[index];

    private static long[] L(object[] arguments) => (long[])arguments[0];

    private static object[] TwoNumbers(Dice dice) => [(long)dice.Between(1, 20), (long)dice.Between(1, 20)];

    private static object[] OneNumber(Dice dice) => [(long)dice.Between(3, 40)];

    private static object[] Signed(Dice dice) => [(long)dice.Between(-5, 5)];

    private static object[] TwoTexts(Dice dice) => [dice.Pick("Ann", "Tom", "Eva", "Ole"), dice.Pick("Lee", "Berg", "Kim", "Stone")];

    private static object[] Items(Dice dice) => [Enumerable.Range(0, dice.Between(2, 5)).Select(_ => (long)dice.Between(0, 9)).ToArray()];

    private static long Factorial(long n)
    {
        long product = 1;
        for (long i = 2; i <= n; i++)
            product *= i;
        return product;
    }

    private static long Power(long number, long exponent)
    {
        long power = 1;
        for (long i = 0; i < exponent; i++)
            power *= number;
        return power;
    }
}
