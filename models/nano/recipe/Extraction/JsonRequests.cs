using System.Globalization;

namespace Qian.Nano;

// JSON of a given form from a text: the schema stands in the request, the values in the text.
internal static class JsonRequests
{
    // How a field stands in a schema, in a sentence about a subject, and in the answer.
    private sealed record Field(string Name, string Type, string[] Sentences, Func<Dice, Split, object> Draw);

    private sealed record Subject(string Name, string[] Openings, Func<Dice, Split, string> DrawName, string NameField, Field[] Fields);

    private static readonly string[] s_people = ["Anna", "Ben", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Leo", "Mara", "Nils", "Olga", "Paul", "Rosa", "Simon", "Tina", "Ugo", "Vera", "Walter", "Yara", "Zoe", "Amir", "Bella", "Carlos", "Dora", "Emil", "Fatima", "Goran", "Hana", "Ivan", "Jana", "Kofi", "Lina", "Milo", "Nora", "Omar", "Petra"];
    private static readonly string[] s_cities = ["Paris", "Rome", "Oslo", "Lima", "Cairo", "Tokyo", "Berlin", "Madrid", "Vienna", "Lisbon", "Dublin", "Prague", "Athens", "Boston", "Seoul", "Delhi", "Quito", "Turin", "Lyon", "Graz", "Basel", "Kyoto", "Accra", "Malmo", "Ghent", "Porto", "Leeds", "Bergen"];
    private static readonly string[] s_jobs = ["teacher", "baker", "nurse", "pilot", "farmer", "lawyer", "painter", "doctor", "engineer", "writer", "cook", "gardener", "driver", "singer"];
    private static readonly string[] s_goods = ["lamp", "chair", "table", "phone", "book", "camera", "bottle", "jacket", "guitar", "mirror", "clock", "carpet", "basket", "knife", "radio", "pillow", "kettle", "helmet"];
    private static readonly string[] s_colors = ["red", "green", "blue", "black", "white", "yellow", "brown", "gray", "orange", "purple"];
    private static readonly string[] s_hobbies = ["chess", "tennis", "reading", "swimming", "hiking", "cooking", "cycling", "drawing", "dancing", "fishing", "running", "singing"];
    private static readonly string[] s_events = ["concert", "meeting", "lecture", "party", "market", "race", "workshop", "exhibition", "festival", "dinner"];
    private static readonly string[] s_months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

    private static readonly Field s_city = new("city", "string", ["{s} lives in {v}.", "{s} comes from {v}.", "The home of {s} is {v}."], (d, p) => Word(d, p, s_cities));
    private static readonly Subject[] s_subjects =
    [
        new("person", ["This is about {s}.", "Meet {s}.", "{s} is a friend of mine.", "I know {s} well."], (d, p) => Word(d, p, s_people), "name",
        [
            new("age", "integer", ["{s} is {v} years old.", "{s} turned {v} this year.", "At the age of {v}, {s} is happy."], (d, _) => d.Between(5, 95)),
            s_city,
            new("job", "string", ["{s} works as a {v}.", "By profession, {s} is a {v}."], (d, p) => Word(d, p, s_jobs)),
            new("hobbies", "array of strings", ["{s} likes {v}.", "The hobbies of {s} are {v}."], (d, p) => Several(d, p, s_hobbies)),
            new("married", "boolean", ["{s} is {b} married."], (d, _) => d.Chance(50)),
            new("children", "integer", ["{s} has {v} children."], (d, _) => d.Between(0, 6)),
        ]),
        new("product", ["We sell a {s}.", "The shop has a {s}.", "For sale: a {s}.", "There is a {s} in the shop."], (d, p) => Word(d, p, s_goods), "product",
        [
            new("price", "number", ["The {s} costs {v} euros.", "The price of the {s} is {v} euros."], (d, _) => d.Between(2, 400) + d.Pick(0.5, 0.25, 0.75, 0.95)),
            new("color", "string", ["The {s} is {v}.", "Its color is {v}."], (d, p) => Word(d, p, s_colors)),
            new("stock", "integer", ["{v} pieces are in stock.", "We have {v} of them."], (d, _) => d.Between(1, 300)),
            new("used", "boolean", ["The {s} is {b} used."], (d, _) => d.Chance(50)),
            new("colors", "array of strings", ["It comes in {v}.", "You can have the {s} in {v}."], (d, p) => Several(d, p, s_colors)),
        ]),
        new("event", ["A {s} is planned.", "There will be a {s}.", "You are invited to a {s}.", "We organize a {s}."], (d, p) => Word(d, p, s_events), "event",
        [
            new("place", "string", ["The {s} takes place in {v}.", "It will be in {v}."], (d, p) => Word(d, p, s_cities)),
            new("month", "string", ["The {s} is in {v}.", "It happens in {v}."], (d, p) => Word(d, p, s_months)),
            new("year", "integer", ["The year is {v}.", "It is planned for {v}."], (d, _) => d.Between(2020, 2035)),
            new("guests", "integer", ["{v} guests are expected.", "About {v} people will come."], (d, _) => d.Between(5, 900)),
            new("speakers", "array of strings", ["The speakers are {v}.", "You will hear {v}."], (d, p) => Several(d, p, s_people)),
            new("free", "boolean", ["The {s} is {b} free."], (d, _) => d.Chance(50)),
        ]),
    ];

    private static readonly string[] s_requests =
    [
        "Extract the data as JSON of this form:\n{j}\nText: {t}", "Return JSON with the fields {f}.\n{t}", "{t}\n\nGive me this as JSON: {j}", "Fill this JSON from the text.\n{j}\n\n{t}", "Read the text and answer only with JSON of the form {j}\n\n{t}",
        "Text: {t}\nSchema: {j}\nJSON:", "Convert to JSON ({f}): {t}", "{t} Write that as a JSON object with {f}.", "Use this schema: {j}\nDescribe: {t}", "Please turn the following into JSON with the keys {f}: {t}", "From the text below, produce {j}\n\n{t}",
        "{j}\nFill in this form from: {t}", "I need a JSON object with {f} from this text: {t}", "Here is a text: {t} Answer with JSON, fields {f}.",
    ];

    private static readonly string[] s_thoughts = ["I take the fields {f} from the text.", "The fields are {f}.", "I look for {f} in the text.", "Only JSON, with {f}."];

    public static Conversation Draw(Dice dice, Split split)
    {
        while (true)
        {
            Subject subject = dice.Pick(s_subjects);
            List<Field> fields = [.. subject.Fields];
            dice.Shuffle(fields);
            int kept = Math.Min(fields.Count, dice.Between(1, 4));
            fields.RemoveRange(kept, fields.Count - kept);
            string form = $"{subject.Name}: {string.Join(' ', fields.Select(field => field.Name))}";
            string asked = dice.Pick(s_requests);
            if (!split.Admits("form", form) || !split.Admits("request", asked))
                continue;
            return Build(dice, split, subject, fields, asked, form);
        }
    }

    private static Conversation Build(Dice dice, Split split, Subject subject, List<Field> fields, string asked, string form)
    {
        string name = subject.DrawName(dice, split);
        var schema = new List<string> { Quote(subject.NameField) + ": \"string\"" };
        var answer = new List<string> { $"{Quote(subject.NameField)}: {Quote(name)}" };
        var sentences = new List<string>();
        foreach (Field field in fields)
        {
            object value = field.Draw(dice, split);
            schema.Add($"{Quote(field.Name)}: {Quote(field.Type)}");
            answer.Add($"{Quote(field.Name)}: {Json(value)}");
            sentences.Add(dice.Pick(field.Sentences).Replace("{v}", Say(value), StringComparison.Ordinal).Replace("{b} ", value is false ? "not " : "", StringComparison.Ordinal));
        }

        // The text tells things in another order than the schema asks for them.
        dice.Shuffle(sentences);
        string text = (dice.Pick(subject.Openings) + " " + string.Join(' ', sentences)).Replace("{s}", name, StringComparison.Ordinal);
        text = text.Replace("a event", "an event", StringComparison.Ordinal).Replace(" a exhibition", " an exhibition", StringComparison.Ordinal).Replace("A exhibition", "An exhibition", StringComparison.Ordinal).Replace(" a engineer", " an engineer", StringComparison.Ordinal);
        List<string> names = [subject.NameField, .. fields.Select(field => field.Name)];
        string words = string.Join(", ", names.Take(names.Count - 1)) + " and " + names[^1];
        string request = asked.Replace("{j}", "{" + string.Join(", ", schema) + "}", StringComparison.Ordinal).Replace("{f}", words, StringComparison.Ordinal).Replace("{t}", text, StringComparison.Ordinal);
        bool thinks = dice.Chance(45);
        string? reasoning = thinks ? dice.Pick(s_thoughts).Replace("{f}", words, StringComparison.Ordinal) : null;
        return new Conversation("json", [Turn.User(request), Turn.Assistant("{" + string.Join(", ", answer) + "}", reasoning)], thinks) { Traits = [("form", form), ("request", asked)] };
    }

    private static string Word(Dice dice, Split split, string[] words)
    {
        // Names of people and cities are partitioned; what the short lists hold is needed on both sides.
        if (split == Split.Training && dice.Chance(35))
            return char.IsUpper(words[0][0]) ? Invented.Capitalised(dice, split) : Invented.Word(dice, split);
        while (true)
        {
            string word = dice.Pick(words);
            if (words.Length < 20 || split.Admits("value", word))
                return word;
        }
    }

    private static string[] Several(Dice dice, Split split, string[] words)
    {
        var several = new List<string>();
        int count = dice.Between(2, 3);
        while (several.Count < count)
        {
            string word = Word(dice, split, words);
            if (!several.Contains(word))
                several.Add(word);
        }

        return [.. several];
    }

    private static string Say(object value) => value is string[] several ? string.Join(", ", several.Take(several.Length - 1)) + " and " + several[^1] : Plain(value);

    private static string Json(object value) => value switch
    {
        string text => Quote(text),
        string[] several => "[" + string.Join(", ", several.Select(Quote)) + "]",
        bool truth => truth ? "true" : "false",
        _ => Plain(value),
    };

    private static string Plain(object value) => Convert.ToString(value, CultureInfo.InvariantCulture)!;

    private static string Quote(string text) => $"\"{text}\"";
}
