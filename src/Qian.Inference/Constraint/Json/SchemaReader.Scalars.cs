using System.Text.Json;

namespace Qian.Inference.Constraint.Json;

// Strings and numbers.
internal sealed partial class SchemaReader
{
    private Term ReadString(JsonElement schema, string path)
    {
        int? least = CountOf(schema, "minLength", path);
        int? most = CountOf(schema, "maxLength", path);
        if (most < least)
            throw Bad($"{path}.maxLength", "is below minLength");
        Term? text = null;
        if (schema.TryGetProperty("pattern", out JsonElement pattern))
        {
            if (pattern.ValueKind != JsonValueKind.String)
                throw Bad($"{path}.pattern", "expected a string");
            try
            {
                text = JsonText.Escape(RegexReader.ReadSearch(pattern.GetString()!, $"{path}.pattern"));
            }
            catch (BadRequestException) when (_isLenient)
            {
                // Passed over.
            }
        }

        if (schema.TryGetProperty("format", out JsonElement format) && format.ValueKind == JsonValueKind.String && StringFormats.Find(format.GetString()!) is { } known)
            text = text is null ? JsonText.Escape(known) : new Term.Both(text, JsonText.Escape(known));
        if (least is null or 0 && most is null)
            return text is null ? JsonText.FreeString : JsonText.Quoted(text);
        Term counted = new Term.Repeat(JsonText.CountedCharacter, least ?? 0, most);
        return JsonText.Quoted(text is null ? counted : new Term.Both(text, counted));
    }

    private Term ReadNumber(JsonElement schema, string path, bool isInteger)
    {
        NumberTerm.Limit? low = Tighter(LimitOf(schema, "minimum", path, false), LimitOf(schema, "exclusiveMinimum", path, true), isLow: true);
        NumberTerm.Limit? high = Tighter(LimitOf(schema, "maximum", path, false), LimitOf(schema, "exclusiveMaximum", path, true), isLow: false);
        decimal? step = null;
        if (schema.TryGetProperty("multipleOf", out JsonElement multiple))
        {
            if (multiple.ValueKind != JsonValueKind.Number || !multiple.TryGetDecimal(out decimal value) || value <= 0)
                throw Bad($"{path}.multipleOf", "expected a number above 0");
            step = value;
        }

        if (low is null && high is null && step is null or 1 && isInteger)
            return JsonText.Integer;
        if (low is null && high is null && step is null)
            return JsonText.Number;
        try
        {
            return NumberTerm.Of(isInteger, low, high, step);
        }
        catch (BadRequestException refusal) when (!refusal.Message.StartsWith(path, StringComparison.Ordinal))
        {
            return _isLenient ? isInteger ? JsonText.Integer : JsonText.Number : throw new BadRequestException($"{path}: {refusal.Message}", refusal);
        }
    }

    private static NumberTerm.Limit? LimitOf(JsonElement schema, string key, string path, bool isExclusive)
    {
        if (!schema.TryGetProperty(key, out JsonElement value))
            return null;
        // Draft 4 wrote a flag here.
        if (value.ValueKind != JsonValueKind.Number)
            throw Bad($"{path}.{key}", "expected a number");
        if (value.TryGetDecimal(out decimal number))
            return new NumberTerm.Limit(number, isExclusive);
        // Beyond what is written anyway, on either side.
        return new NumberTerm.Limit(value.GetRawText().StartsWith('-') ? decimal.MinValue : decimal.MaxValue, isExclusive);
    }

    private static NumberTerm.Limit? Tighter(NumberTerm.Limit? inclusive, NumberTerm.Limit? exclusive, bool isLow)
    {
        if (inclusive is not { } a || exclusive is not { } b)
            return inclusive ?? exclusive;
        return (isLow ? b.Value >= a.Value : b.Value <= a.Value) ? b : a;
    }
}
