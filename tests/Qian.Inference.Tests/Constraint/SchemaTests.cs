using System.Text.Json;

namespace Qian.Inference.Tests.Constraint;

// Whatever is drawn from a schema's grammar parses and fulfils the schema, by a validator of its own; what a schema allows is let through.
public sealed class SchemaTests
{
    public static TheoryData<string> Schemas { get; } = new(
        """{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false}""",
        """{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"boolean"},"c":{"type":"null"},"d":{"enum":["x","y\"z",3,null,{"k":[1,2]}]}},"required":["b"]}""",
        """{"type":"array","items":{"type":"string","minLength":2,"maxLength":5},"minItems":1,"maxItems":4}""",
        """{"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"boolean"},"minItems":1,"maxItems":5}""",
        """{"type":"array","items":{"type":"integer","minimum":-3,"maximum":12},"minItems":12,"maxItems":20}""",
        """{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"value":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["value","next"],"additionalProperties":false}}}""",
        """{"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#"}}},"required":["kids"],"additionalProperties":false}""",
        """{"type":"object","properties":{"ab":{"type":"integer"}},"additionalProperties":{"type":"string","maxLength":3}}""",
        """{"type":"object"}""",
        """{}""",
        """{"type":["string","null","integer"]}""",
        """{"type":"integer","minimum":17,"exclusiveMaximum":1042}""",
        """{"type":"integer","minimum":-250,"maximum":-17,"multipleOf":7}""",
        """{"type":"number","minimum":-1.5,"maximum":2.25}""",
        """{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":0.013}""",
        """{"type":"number","multipleOf":0.25,"minimum":-2,"maximum":3}""",
        """{"type":"integer","exclusiveMinimum":99}""",
        """{"type":"string","pattern":"^[A-Z]{2}-[0-9]{3,5}$"}""",
        """{"type":"string","pattern":"q+\\d","maxLength":12}""",
        """{"type":"string","pattern":"^[^a-z]*$","minLength":3,"maxLength":6}""",
        """{"type":"string","pattern":"\"|\\\\","maxLength":20}""",
        """{"type":"array","items":{"type":"string","format":"date"},"minItems":3,"maxItems":3}""",
        """{"type":"array","items":{"type":"string","format":"date-time"},"minItems":2,"maxItems":2}""",
        """{"type":"string","format":"time"}""",
        """{"type":"string","format":"uuid"}""",
        """{"type":"string","format":"ipv4"}""",
        """{"type":"string","format":"ipv6"}""",
        """{"type":"string","format":"email"}""",
        """{"type":"string","format":"hostname"}""",
        """{"type":"string","format":"duration"}""",
        """{"type":"string","format":"uri"}""",
        """{"oneOf":[{"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"integer"}},"required":["kind","x"]},{"type":"object","properties":{"kind":{"const":"b"},"y":{"type":"string"}},"required":["kind","y"]},{"type":"string"}]}""",
        """{"allOf":[{"$ref":"#/$defs/base"},{"type":"object","properties":{"b":{"type":"integer","maximum":9}},"required":["b"]}],"$defs":{"base":{"type":"object","properties":{"a":{"type":"boolean"},"b":{"type":"integer","minimum":3}},"required":["a"]}}}""",
        """{"type":"object","anyOf":[{"required":["a"]},{"required":["b"]}],"properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"additionalProperties":false}""",
        """{"type":"object","properties":{"é\n\"":{"type":"string","enum":["ü","\u0001","日本"]}},"required":["é\n\""],"additionalProperties":false}""");

    [Theory]
    [MemberData(nameof(Schemas))]
    public void WhatIsDrawnFulfilsTheSchema(string schema)
    {
        using JsonDocument parsed = JsonDocument.Parse(schema);
        Constrained constrained = Constrained.Schema(schema);
        var random = new Random(schema.Length);
        int whole = 0;
        for (int i = 0; i < 40; i++)
        {
            if (constrained.Draw(random) is not { } text)
                continue;
            whole++;
            using JsonDocument value = JsonDocument.Parse(text);
            Assert.True(SchemaCheck.Fulfils(value.RootElement, parsed.RootElement, parsed.RootElement), text);
        }

        Assert.True(whole >= 20, $"only {whole} of 40 came to an end");
    }

    [Theory]
    [InlineData("""{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"]}""", """{"a": 1, "b": "x y"}""", true)]
    [InlineData("""{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"]}""", "{\n  \"a\": 1,\n  \"b\": \"\\u00e9\\n\"\n}", true)]
    [InlineData("""{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"]}""", """{"b":"x"}""", false)]
    [InlineData("""{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"]}""", """{"a":1,"c":2}""", false)]
    [InlineData("""{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":true}""", """{"a":1,"ab":[{"x":{}}],"b":null}""", true)]
    [InlineData("""{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":true}""", """{"a":1,"a":2}""", false)]
    [InlineData("""{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":true}""", """{"b":1}""", true)]
    [InlineData("""{"type":"integer","minimum":-5,"maximum":105}""", "-5", true)]
    [InlineData("""{"type":"integer","minimum":-5,"maximum":105}""", "-6", false)]
    [InlineData("""{"type":"integer","minimum":-5,"maximum":105}""", "105", true)]
    [InlineData("""{"type":"integer","minimum":-5,"maximum":105}""", "106", false)]
    [InlineData("""{"type":"integer","minimum":-5,"maximum":105}""", "1000", false)]
    [InlineData("""{"type":"integer","minimum":-5,"maximum":105}""", "-0", false)]
    [InlineData("""{"type":"number","minimum":0.25,"maximum":1.5}""", "0.25", true)]
    [InlineData("""{"type":"number","minimum":0.25,"maximum":1.5}""", "0.2", false)]
    [InlineData("""{"type":"number","minimum":0.25,"maximum":1.5}""", "1.500", true)]
    [InlineData("""{"type":"number","minimum":0.25,"maximum":1.5}""", "1.5001", false)]
    [InlineData("""{"type":"number"}""", "-12.5e-3", true)]
    [InlineData("""{"type":"number"}""", "01", false)]
    [InlineData("""{"type":"array","items":{"type":"integer"},"maxItems":2}""", "[]", true)]
    [InlineData("""{"type":"array","items":{"type":"integer"},"maxItems":2}""", "[1, 2]", true)]
    [InlineData("""{"type":"array","items":{"type":"integer"},"maxItems":2}""", "[1,2,3]", false)]
    [InlineData("""{"type":"string","maxLength":2}""", "\"😀日\"", true)]
    [InlineData("""{"type":"string","maxLength":2}""", "\"abc\"", false)]
    [InlineData("""{"type":"string"}""", "\"\\ud83d\"", false)]
    [InlineData("""{"type":"string"}""", "\"a\nb\"", false)]
    [InlineData("""{"type":"string","format":"date"}""", "\"2024-02-29\"", true)]
    [InlineData("""{"type":"string","format":"date"}""", "\"2023-02-29\"", false)]
    [InlineData("""{"type":"string","format":"never-heard-of"}""", "\"x\"", true)]
    public void TextsAreToldApart(string schema, string text, bool matches) => Assert.Equal(matches, Constrained.Schema(schema).Matches(text));

    [Fact]
    public void AnyObjectIsAnyObject()
    {
        var constrained = new Constrained(OutputConstraint.JsonObject);
        Assert.True(constrained.Matches("""{"a": [1, {"b": null}], "c": {}}"""));
        Assert.True(constrained.Matches("{}"));
        Assert.False(constrained.Matches("[1]"));
        Assert.Null(constrained.Read("""{"a": """u8.ToArray()));
    }

    // Random walks must not nest beyond what readers of JSON accept, nor end where nothing can follow.
    [Fact]
    public void NestingIsBoundedAndNeverADeadEnd()
    {
        var constrained = new Constrained(OutputConstraint.JsonObject);
        int depth = 0;
        byte[] text = "{\"a\":"u8.ToArray();
        while (constrained.Read([.. text, (byte)'[']) != false)
        {
            text = [.. text, (byte)'['];
            Assert.True(++depth < 63);
        }

        Assert.InRange(depth, 20, 62);
        byte[] whole = [.. text, .. Enumerable.Repeat((byte)']', depth), (byte)'}'];
        using JsonDocument parsed = JsonDocument.Parse(whole);
        Assert.True(constrained.Read(whole));
    }

    [Theory]
    [InlineData("""{"type":"object","properties":{"x":{"type":"object","properties":{"y":{"not":{}}}}}}""", "schema.properties.x.properties.y.not")]
    [InlineData("""{"type":"array","uniqueItems":true}""", "schema.uniqueItems")]
    [InlineData("""{"type":"strnig"}""", "schema.type")]
    [InlineData("""{"type":5}""", "schema.type")]
    [InlineData("""{"$ref":"http://example.com/x"}""", "schema.$ref")]
    [InlineData("""{"$ref":"#/$defs/x"}""", "schema.$ref")]
    [InlineData("""{"type":"string","pattern":"(?=a)b"}""", "schema.pattern")]
    [InlineData("""{"type":"string","pattern":"(a"}""", "schema.pattern")]
    [InlineData("""{"type":"string","minLength":5,"maxLength":4}""", "schema.maxLength")]
    [InlineData("""{"type":"string","maxLength":99999999}""", "schema.maxLength")]
    [InlineData("""{"oneOf":[{"type":"integer"},{"type":"number"}]}""", "schema.oneOf")]
    [InlineData("""{"type":"object","required":["a"],"properties":{}}""", "schema.required")]
    [InlineData("""{"type":"object","patternProperties":{"a":{}}}""", "schema.patternProperties")]
    [InlineData("""{"enum":[]}""", "schema.enum")]
    [InlineData("""{"anyOf":[]}""", "schema.anyOf")]
    [InlineData("""{"type":"integer","multipleOf":0}""", "schema.multipleOf")]
    [InlineData("7", "schema")]
    [InlineData("{", "schema")]
    public void RefusalsNameThePlace(string schema, string place)
    {
        BadRequestException refusal = Assert.Throws<BadRequestException>(() => Constrained.Schema(schema));
        Assert.StartsWith(place + ":", refusal.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}""")]
    [InlineData("""{"$ref":"#"}""")]
    [InlineData("""false""")]
    [InlineData("""{"type":"integer","minimum":5,"maximum":4}""")]
    [InlineData("""{"type":"string","pattern":"^a$","minLength":2}""")]
    public void WhatNothingFulfilsIsRefused(string schema) => Assert.Throws<BadRequestException>(() => Constrained.Schema(schema));
}
