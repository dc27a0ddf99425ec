namespace Qian.Inference.Constraint.Json;

// The formats of JSON schema that are enforced, as patterns of the bare text. Days fit their months, leap years included; years are 1000 to 9999.
internal static class StringFormats
{
    private const string Leap = "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)";

    private const string Date = "([1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|" + Leap + "-02-29)";

    private const string LocalTime = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,7})?";

    private const string Zone = "(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])";

    private const string Byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

    private const string Label = "[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?";

    private const string Group = "[0-9a-fA-F]{1,4}";

    private static readonly Dictionary<string, string> s_patterns = new()
    {
        ["date"] = Date,
        ["time"] = LocalTime + Zone,
        ["date-time"] = Date + "T" + LocalTime + Zone,
        ["duration"] = "P([0-9]{1,4}W|([0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?|[0-9]{1,4}M([0-9]{1,4}D)?|[0-9]{1,4}D)(T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S))?|T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S))",
        ["email"] = "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,32}){0,3}@" + Label + "(\\." + Label + "){0,4}\\.[A-Za-z]{2,12}",
        ["hostname"] = Label + "(\\." + Label + "){0,6}",
        ["ipv4"] = Byte + "(\\." + Byte + "){3}",
        ["ipv6"] = "((" + Group + ":){7}" + Group + "|(" + Group + ":){1,6}(:" + Group + ")|(" + Group + ":){1,5}(:" + Group + "){2}|(" + Group + ":){1,4}(:" + Group + "){3}|(" + Group
            + ":){1,3}(:" + Group + "){4}|(" + Group + ":){1,2}(:" + Group + "){5}|" + Group + ":(:" + Group + "){6}|:(:" + Group + "){1,7}|(" + Group + ":){1,7}:|::)",
        ["uuid"] = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        ["uri"] = "[a-z][a-z0-9+.-]{0,15}://" + Label + "(\\." + Label + "){0,6}(:[1-9][0-9]{0,3})?(/[A-Za-z0-9_.~-]{0,64}){0,12}(\\?[A-Za-z0-9_.~=&-]{0,128})?",
    };

    // Null for a format that says nothing to us: such formats are notes.
    public static Term? Find(string name) => s_patterns.TryGetValue(name, out string? pattern) ? RegexReader.ReadWhole(pattern, "format") : null;
}
