namespace Qian.Inference.Chat.Jinja;

// Methods of strings, dicts and lists. Those that would change a value exist too, but only to be refused, as in jinja2's immutable
// sandbox, under which transformers renders templates.
internal static class JinjaMethods
{
    public static bool Exists(JinjaKind kind, string name) => kind switch
    {
        JinjaKind.Text => name is "strip" or "lstrip" or "rstrip" or "split" or "rsplit" or "splitlines" or "startswith" or "endswith"
            or "replace" or "upper" or "lower" or "title" or "capitalize" or "swapcase" or "join" or "find" or "rfind" or "index"
            or "count" or "isdigit" or "isdecimal" or "isnumeric" or "isalpha" or "isalnum" or "isspace" or "isupper" or "islower"
            or "removeprefix" or "removesuffix" or "partition" or "rpartition" or "zfill" or "format",
        JinjaKind.Mapping => name is "items" or "keys" or "values" or "get" or "copy" || IsMutatorOfDict(name),
        JinjaKind.List => name is "index" or "count" or "copy" || IsMutatorOfList(name),
        _ => false,
    };

    public static JinjaValue Call(JinjaValue owner, string name, JinjaArguments arguments) => owner.Kind switch
    {
        JinjaKind.Text => JinjaTextMethods.Call(owner.Text, name, arguments),
        JinjaKind.Mapping => CallOnMapping(owner, name, arguments),
        _ => CallOnList(owner, name, arguments),
    };

    private static bool IsMutatorOfDict(string name) => name is "clear" or "pop" or "popitem" or "setdefault" or "update";

    private static bool IsMutatorOfList(string name) =>
        name is "append" or "clear" or "extend" or "insert" or "pop" or "remove" or "reverse" or "sort";

    private static JinjaValue CallOnMapping(JinjaValue owner, string name, JinjaArguments arguments)
    {
        JinjaMapping mapping = owner.Mapping;
        switch (name)
        {
            case "get":
                return mapping.TryGet(arguments.Require(0, "key"), out JinjaValue found)
                    ? found
                    : arguments.Find(1, "default") ?? JinjaValue.None;
            case "copy":
                return owner;
            case "items" or "keys" or "values":
                arguments.Budget.Step(mapping.Count);
                var items = new JinjaValue[mapping.Count];
                for (int i = 0; i < items.Length; i++)
                {
                    items[i] = name switch
                    {
                        "keys" => mapping.KeyAt(i),
                        "values" => mapping.ValueAt(i),
                        _ => JinjaValue.FromList([mapping.KeyAt(i), mapping.ValueAt(i)], JinjaListForm.Tuple),
                    };
                }

                return JinjaValue.FromList(items);
            default:
                throw Unsafe(owner, name);
        }
    }

    private static JinjaValue CallOnList(JinjaValue owner, string name, JinjaArguments arguments)
    {
        if (name == "copy")
        {
            return owner;
        }

        if (IsMutatorOfList(name))
        {
            throw Unsafe(owner, name);
        }

        JinjaValue wanted = arguments.Require(0, "value");
        int count = 0;
        for (int i = 0; i < owner.List.Items.Count; i++)
        {
            if (!JinjaOperators.AreEqual(owner.List.Items[i], wanted, arguments.Budget))
            {
                continue;
            }

            if (name == "index")
            {
                return JinjaValue.FromInteger(i);
            }

            count++;
        }

        return name == "count"
            ? JinjaValue.FromInteger(count)
            : throw new TemplateException(TemplateFault.Value, "the value is not in the list");
    }

    private static TemplateException Unsafe(JinjaValue owner, string name) => new(
        TemplateFault.Security, $"access to attribute '{name}' of '{owner.TypeName}' object is unsafe.");
}
