using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference.Tests.Fuzzing;

namespace Qian.Inference.Tests.Constraint;

// Random schemas: what is drawn from them fulfils them. Damaged schemas, patterns and grammars: refused or compiled, never anything else.
public sealed class ConstraintFuzzTests
{
    private static readonly string[] s_regexes =
        ["^[a-z]{2,5}(foo|bar)*\\d+$", "(a|b)*c{3}[^x-z]\\.\\p{Lu}", "\\u0041\\x42(?:x?y+){1,9}$|^z"];

    private static readonly string[] s_grammars =
        ["root ::= item (\",\" item)*\nitem ::= [a-z]+ | \"(\" root \")\" | \"\\x41\"{2,3}", "root ::= a b?\na ::= \"x\" | 'y' a # c\nb ::= . [^\\n]{1,4}"];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void RandomSchemasAreFulfilled(int seed)
    {
        var random = new Random(seed);
        int drawn = 0;
        for (int i = 0; i < 25; i++)
        {
            string schema = Schema(random, 3).ToJsonString();
            using JsonDocument parsed = JsonDocument.Parse(schema);
            Constrained constrained = Constrained.Schema(schema);
            for (int j = 0; j < 4; j++)
            {
                if (constrained.Draw(random, 250) is not { } text)
                    continue;
                drawn++;
                using JsonDocument value = JsonDocument.Parse(text);
                Assert.True(SchemaCheck.Fulfils(value.RootElement, parsed.RootElement, parsed.RootElement), $"{schema}\n{text}");
            }
        }

        Assert.True(drawn > 40, $"{drawn}");
    }

    [Fact]
    public void DamagedSchemasAreRefusedOrCompiled()
    {
        string[] schemas = [.. ((IEnumerable<object[]>)SchemaTests.Schemas).Select(row => (string)row[0])];
        Fuzz(1, schemas, OutputConstraint.JsonSchema, "{}", "[]", "\"$ref\":\"#\"", "\"maxLength\":99999", "\"minItems\":500", "\"allOf\":[{\"$ref\":\"#\"}]", "null", "true");
    }

    [Fact]
    public void DamagedPatternsAreRefusedOrCompiled() => Fuzz(2, s_regexes, OutputConstraint.Regex, "(", ")", "{1000}", "*", "\\p{L}", "[^", "|", ".*", "\\u{10FFFF}", "(?:");

    [Fact]
    public void DamagedGrammarsAreRefusedOrCompiled() => Fuzz(3, s_grammars, OutputConstraint.Grammar, "root", "::=", "(", "{99}", "a", "|", "\n", "[", "\"");

    private static void Fuzz(int seed, string[] texts, Func<string, OutputConstraint> read, params string[] words)
    {
        var mutator = new Mutator(seed, [.. words.Select(word => Encoding.UTF8.GetBytes(word))]);
        int compiled = 0, refused = 0;
        int count = Mutator.Count(150);
        for (int i = 0; i < count; i++)
        {
            string text = Encoding.UTF8.GetString(mutator.Mutate(Encoding.UTF8.GetBytes(texts[i % texts.Length])));
            try
            {
                var constrained = new Constrained(read(text));
                compiled++;
                constrained.Draw(new Random(i), 6);
            }
            catch (BadRequestException)
            {
                refused++;
            }
        }

        Assert.True(compiled > count / 20 && refused > count / 20, $"{compiled} compiled, {refused} refused");
    }

    private static JsonObject Schema(Random random, int depth)
    {
        switch (random.Next(depth > 0 ? 9 : 6))
        {
            case 0:
                int low = random.Next(-300, 300);
                return new JsonObject { ["type"] = "integer", ["minimum"] = low, ["maximum"] = low + random.Next(1, 500) };
            case 1:
                decimal from = random.Next(-500, 500) / 100m;
                return new JsonObject { ["type"] = "number", [random.Next(2) == 0 ? "minimum" : "exclusiveMinimum"] = from, ["maximum"] = from + random.Next(1, 300) / 100m };
            case 2:
                int least = random.Next(4);
                return new JsonObject { ["type"] = "string", ["minLength"] = least, ["maxLength"] = least + random.Next(6) };
            case 3:
                return new JsonObject { ["enum"] = new JsonArray("a", random.Next(9), null, "é\"\\") };
            case 4:
                return new JsonObject { ["type"] = new JsonArray("boolean", "null") };
            case 5:
                return new JsonObject { ["type"] = "integer", ["multipleOf"] = random.Next(2, 60), ["minimum"] = 0 };
            case 6:
                int few = random.Next(3);
                return new JsonObject { ["type"] = "array", ["items"] = Schema(random, depth - 1), ["minItems"] = few, ["maxItems"] = few + random.Next(3) };
            case 7:
                return new JsonObject { ["anyOf"] = new JsonArray(Schema(random, depth - 1), Schema(random, depth - 1)) };
            default:
                var properties = new JsonObject();
                var required = new JsonArray();
                for (int i = random.Next(1, 5); i > 0; i--)
                {
                    string name = new string("abé\"_"[random.Next(5)], random.Next(1, 3));
                    properties[name] = Schema(random, depth - 1);
                    if (random.Next(2) == 0 && required.All(known => (string)known! != name))
                        required.Add(name);
                }

                return new JsonObject { ["type"] = "object", ["properties"] = properties, ["required"] = required, ["additionalProperties"] = random.Next(2) == 0 };
        }
    }
}
