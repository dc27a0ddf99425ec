namespace Qian.Nano;

// How a function is asked for and answered: a sentence made of parts, or a signature with a comment to complete; thinking of one
// to three sentences, or none.
internal static class FunctionRequests
{
    private static readonly string[] s_leads = ["Write", "Write", "Please write", "Implement", "Create", "Can you write", "Could you write", "I need", "Give me", "Show me", "Define", "Help me write", "Make", "I want", "Now write", "Please implement", "Can you show me"];
    private static readonly string[] s_cSharpNouns = ["a C# method", "a C# method", "a C# function", "a static C# method", "a method in C#", "a short C# method", "a simple C# function"];
    private static readonly string[] s_pythonNouns = ["a Python function", "a Python function", "a function in Python", "a small Python function", "a short Python function", "a simple function in Python"];
    private static readonly string[] s_relations = ["that returns", "that returns", "that computes", "which returns", "to compute", "that calculates", "that gives", "returning", "to get", "which computes"];
    private static readonly string[] s_truthRelations = ["that checks whether", "that tells whether", "to check if", "that returns true if", "which determines whether", "that checks if", "to test whether"];
    private static readonly string[] s_tails = ["", "", "", "", "", " Only the code, please.", " Keep it short.", " No explanation needed.", " Thank you.", " Make it clear."];
    private static readonly string[] s_namings = ["", "", "", " named {f}", " called {f}", " with the name {f}"];
    private static readonly string[] s_terse = ["In {l}, how do I get {p}?", "{l}: {p}", "How can I compute {p} in {l}?", "In {l}, write code for {p}.", "{l} code for {p}, please.", "I am looking for {p} in {l}.", "Code in {l} that gives {p}?"];
    private static readonly string[] s_truthTerse = ["In {l}, how do I check whether {p}?", "{l}: check whether {p}", "How can I test if {p} in {l}?", "In {l}, write code that tells whether {p}."];
    private static readonly string[] s_completions = ["Complete this {n}:", "Finish this {n}:", "Fill in the body of this {n}:", "Implement this {n}:", "Write the body of this {n}:", "Complete the following {n}.", "Please complete this {n}:", "Here is the signature of a {n}; write it out:", "Complete:", "Finish the code:"];
    private static readonly string[] s_intros = ["Here is the {m}:", "This {m} does it:", "Here it is:", "You can write it like this:", "Sure:", "A possible solution:"];
    private static readonly string[] s_thoughts = ["I need {p}. Plan: {s}.", "The task: {p}. I {s}.", "To get {p}: {s}.", "Steps: {s}.", "I {s}. That gives {p}."];
    private static readonly string[] s_truthThoughts = ["I have to tell whether {p}. Plan: {s}.", "The question is whether {p}. I {s}.", "Steps: {s}.", "To know whether {p}: {s}."];

    // The frame of the sentence that the demonstration uses belongs to training: its content is what is excluded.
    private const string OpenFrame = "Write|a C# method|that returns||";

    public static Conversation Draw(Dice dice, Split split) => Ask(dice, split, DrawRoutine(dice, split), dice.Chance(50));

    public static Routine DrawRoutine(Dice dice, Split split)
    {
        Language language = dice.Chance(55) ? Language.CSharp : Language.Python;
        int roll = dice.Below(100);
        return roll switch
        {
            < 46 => NumberPipelines.Draw(dice, split, language),
            < 58 => TextPipelines.Draw(dice, split, language),
            < 72 => WordPipelines.Draw(dice, split, language),
            // A single task has no composition that could be held out.
            _ when roll >= 85 && split == Split.Training => SingleTasks.Draw(dice, split, language),
            _ => Chains.Draw(dice, split, language),
        };
    }

    public static Conversation Ask(Dice dice, Split split, Routine routine, bool thinks)
    {
        while (true)
        {
            bool typed = dice.Chance(60);
            (string request, string frame) = dice.Chance(55) ? Sentence(dice, routine) : Completion(dice, routine, typed);
            if (frame == OpenFrame ? split == Split.HeldOut : !split.Admits("wording", frame))
                continue;
            if (split == Split.Training && Exclusions.Excludes(request))
                continue;
            string? reasoning = thinks ? Think(dice, routine) : null;
            List<(string, string)> traits = [("wording", frame), ("name", routine.Name)];
            if (routine.PartCount > 1)
                traits.Add(("composition", routine.Key));
            traits.AddRange(routine.Parameters.Select(parameter => ("name", parameter.Name)));
            return new Conversation("functions", [Turn.User(request), Turn.Assistant(Answer(dice, routine, typed), reasoning)], thinks) { Traits = traits };
        }
    }

    private static (string Request, string Frame) Sentence(Dice dice, Routine routine)
    {
        string phrase = InWords(dice, routine);
        string language = routine.Language == Language.CSharp ? "C#" : "Python";
        if (dice.Chance(18))
        {
            string terse = dice.Pick(routine.IsTruth ? s_truthTerse : s_terse);
            return (terse.Replace("{l}", language, StringComparison.Ordinal).Replace("{p}", phrase, StringComparison.Ordinal), terse + language);
        }

        string lead = dice.Pick(s_leads);
        string noun = dice.Pick(routine.Language == Language.CSharp ? s_cSharpNouns : s_pythonNouns);
        string relation = dice.Pick(routine.IsTruth ? s_truthRelations : s_relations);
        string naming = dice.Pick(s_namings);
        string tail = dice.Pick(s_tails);
        string end = lead[0] == 'C' && lead[1] is 'a' or 'o' ? "?" : ".";
        string name = routine.Language == Language.CSharp ? Names.Pascal(routine.Name) : Names.Snake(routine.Name);
        return ($"{lead} {noun}{naming.Replace("{f}", name, StringComparison.Ordinal)} {relation} {phrase}{end}{tail}", $"{lead}|{noun}|{relation}|{naming}|{tail}");
    }

    private static (string Request, string Frame) Completion(Dice dice, Routine routine, bool typed)
    {
        bool isCSharp = routine.Language == Language.CSharp;
        string lead = dice.Pick(s_completions);
        int place = dice.Below(3);
        string phrase = WithNames(routine);
        string does = (routine.IsTruth, isCSharp) switch
        {
            (true, true) => $"Returns true if {phrase}.",
            (true, false) => $"Return True if {phrase}.",
            (false, true) => $"Returns {phrase}.",
            _ => $"Return {phrase}.",
        };
        string code = routine.Signature(typed);
        if (place == 0)
            code = isCSharp ? (dice.Chance(50) ? $"/// <summary>{does}</summary>\n" : $"// {does}\n") + code : $"{code}\n    \"\"\"{does}\"\"\"";
        else if (!isCSharp && dice.Chance(40))
            code += "\n    ...";
        string fence = $"```{(isCSharp ? "csharp" : "python")}\n{code}\n```";
        string should = routine.IsTruth ? $"It should tell whether {phrase}." : $"It should return {phrase}.";
        string noun = isCSharp ? dice.Pick("C# method", "method") : dice.Pick("Python function", "function");
        string head = lead.Replace("{n}", noun, StringComparison.Ordinal);
        string request = place switch
        {
            0 => $"{head}\n{fence}",
            1 => $"{head}\n{fence}\n{should}",
            _ => $"{should} {head}\n{fence}",
        };
        return (request, $"{lead}|{noun}|{place}");
    }

    private static string Think(Dice dice, Routine routine)
    {
        string thought = dice.Pick(routine.IsTruth ? s_truthThoughts : s_thoughts);
        bool isStart = thought[0] == '{';
        string plan = isStart ? char.ToUpperInvariant(routine.Plan[0]) + routine.Plan[1..] : routine.Plan;
        return thought.Replace("{s}", plan, StringComparison.Ordinal).Replace("{p}", WithNames(routine), StringComparison.Ordinal);
    }

    private static string Answer(Dice dice, Routine routine, bool typed)
    {
        string method = routine.Language == Language.CSharp ? "method" : "function";
        string intro = dice.Chance(25) ? dice.Pick(s_intros).Replace("{m}", method, StringComparison.Ordinal) + "\n\n" : "";
        string fence = routine.Language == Language.CSharp ? "csharp" : "python";
        return $"{intro}```{fence}\n{routine.Code(dice.Chance(35), typed)}\n```";
    }

    // The phrase with the parameters' names.
    private static string WithNames(Routine routine)
    {
        string phrase = routine.Phrase;
        for (int i = 0; i < routine.Parameters.Count; i++)
            phrase = phrase.Replace("$" + i, routine.Parameters[i].Name, StringComparison.Ordinal);
        return phrase;
    }

    // The phrase for somebody who has not named the parameters.
    private static string InWords(Dice dice, Routine routine)
    {
        string phrase = routine.Phrase;
        IReadOnlyList<Parameter> parameters = routine.Parameters;
        if (parameters.Count > 1 && parameters[0].Sort == parameters[1].Sort && phrase.Contains("$0 and $1", StringComparison.Ordinal))
        {
            string pair = "two " + Many(routine.Language, parameters[0]);
            phrase = phrase.Replace("$0 and $1", parameters[0].Sort.IsPlural() ? pair : dice.Pick(pair, $"{pair} {parameters[0].Name} and {parameters[1].Name}"), StringComparison.Ordinal);
        }

        for (int i = 0; i < parameters.Count; i++)
        {
            string words = i == 0 && (parameters.Count == 1 || parameters[0].Sort >= Sort.Text) ? One(dice, routine.Language, parameters[0]) : parameters[i].Sort == Sort.Text ? "another string" : parameters[i].Name;
            if (i > 0 && parameters[0].Sort.IsPlural())
                phrase = phrase.Replace("than $1", $"than a given {parameters[1].Name}", StringComparison.Ordinal).Replace("least $1", $"least a given {parameters[1].Name}", StringComparison.Ordinal);
            phrase = phrase.Replace("$" + i, words, StringComparison.Ordinal);
        }

        return phrase;
    }

    private static string One(Dice dice, Language language, Parameter parameter)
    {
        if (!parameter.Sort.IsPlural())
        {
            return parameter.Sort switch
            {
                Sort.Text => dice.Pick("a string", "a string", "a text", "a given string"),
                Sort.Double => dice.Pick("a number", "a double"),
                _ => dice.Pick("an integer", "a number", "a given number", "an int n"),
            };
        }

        string many = Many(language, parameter);
        bool isArray = many.EndsWith("arrays", StringComparison.Ordinal);
        string one = isArray ? many[..^1] : many.Replace("lists of", "list of", StringComparison.Ordinal).Replace("sequences of", "sequence of", StringComparison.Ordinal);
        string article = one[0] is 'a' or 'i' ? "an " : "a ";
        if (isArray && dice.Chance(35))
            return dice.Pick("an array of ", "a given array of ") + Element(parameter.Sort.Element(), parameter.Sort);
        return dice.Pick(article, article, article, "a given ") + one;
    }

    private static string Element(Sort element, Sort sort) => sort == Sort.IntRows ? "int arrays" : element switch { Sort.Int => "ints", Sort.Long => "longs", Sort.Double => "doubles", _ => "strings" };

    private static string Many(Language language, Parameter parameter)
    {
        Sort sort = parameter.Sort;
        if (!sort.IsPlural())
            return sort switch { Sort.Text => "strings", Sort.Double => "doubles", _ => "integers" };
        if (language == Language.Python)
            return "lists of " + sort switch { Sort.Doubles => "floats", Sort.Texts => "strings", Sort.IntRows => "lists", _ => "integers" };
        return parameter.Holder switch
        {
            Holder.Array when sort == Sort.IntRows => "int[][] arrays",
            Holder.Array => sort.Element().CSharpType() + " arrays",
            Holder.List => "lists of " + Element(sort.Element(), sort),
            _ => "sequences of " + Element(sort.Element(), sort),
        };
    }
}
