using System.Globalization;

namespace Qian.Nano;

internal enum Language
{
    CSharp,
    Python,
}

// What a value is, whatever the language. As values: Int and Long are long, the plural sorts arrays of long, double and string,
// IntRows is an array of long[].
internal enum Sort
{
    Int,
    Long,
    Double,
    Bool,
    Text,
    Ints,
    Longs,
    Doubles,
    Texts,
    IntRows,
}

// How C# holds a plural sort.
internal enum Holder
{
    Array,
    List,
    Sequence,
}

internal static class Sorts
{
    public static bool IsPlural(this Sort sort) => sort >= Sort.Ints;

    public static Sort Element(this Sort sort) => sort switch
    {
        Sort.Ints => Sort.Int,
        Sort.Longs => Sort.Long,
        Sort.Doubles => Sort.Double,
        Sort.Texts => Sort.Text,
        Sort.IntRows => Sort.Ints,
        _ => sort,
    };

    public static Sort Plural(this Sort sort) => sort switch
    {
        Sort.Int => Sort.Ints,
        Sort.Long => Sort.Longs,
        Sort.Double => Sort.Doubles,
        _ => Sort.Texts,
    };

    public static string Type(this Sort sort, Language language, Holder holder) => language == Language.CSharp ? CSharpType(sort, holder) : PythonType(sort);

    public static string CSharpType(this Sort sort, Holder holder = Holder.Array) => sort switch
    {
        Sort.Int => "int",
        Sort.Long => "long",
        Sort.Double => "double",
        Sort.Bool => "bool",
        Sort.Text => "string",
        Sort.IntRows => holder == Holder.Array ? "int[][]" : "List<List<int>>",
        _ => holder switch
        {
            Holder.Array => sort.Element().CSharpType() + "[]",
            Holder.List => $"List<{sort.Element().CSharpType()}>",
            _ => $"IEnumerable<{sort.Element().CSharpType()}>",
        },
    };

    private static string PythonType(Sort sort) => sort switch
    {
        Sort.Int or Sort.Long => "int",
        Sort.Double => "float",
        Sort.Bool => "bool",
        Sort.Text => "str",
        Sort.IntRows => "list[list[int]]",
        _ => $"list[{PythonType(sort.Element())}]",
    };

    // A value as people write it in a test list: [1, 2], "a", 1.5, true.
    public static string Show(object value) => value switch
    {
        string text => "\"" + text + "\"",
        bool truth => truth ? "true" : "false",
        double number => number.ToString("0.0###", CultureInfo.InvariantCulture),
        Array items => "[" + string.Join(", ", items.Cast<object>().Select(Show)) + "]",
        _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };
}
