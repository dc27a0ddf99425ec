using System.Text.RegularExpressions;

namespace Qian.Inference.Tests.Constraint;

public sealed class RegexTests
{
    [Theory]
    [InlineData("a|bc*", "a b bc bccc ac ")]
    [InlineData("(?:ab)+?c{2,3}", "abcc ababccc abc abcccc c")]
    [InlineData("[a-c\\]\\-x]{1,}", "abc ] - x d")]
    [InlineData("[^a-z\\d]+", "ABC A1 - é a")]
    [InlineData("\\w+@\\w+\\.(com|org)", "a@b.com a_1@x.org a@b a@b.net")]
    [InlineData("^\\d{3}$", "123 12 1234")]
    [InlineData(".{2}", "é日 😀a a abc")]
    [InlineData("\\p{Lu}\\p{Ll}*", "Élan Abc abc A")]
    [InlineData("\\x41\\u0042\\n?", "AB A B")]
    [InlineData("(?<name>x|y)\\.?", "x y. z .")]
    [InlineData("(a?){3}b", "b aaab aaaab ab")]
    [InlineData("x{0}y", "y xy")]
    [InlineData("a{,2}b{", "a{,2}b{")]
    public void WholeMatchesAgreeWithDotNet(string pattern, string texts)
    {
        var constrained = new Constrained(OutputConstraint.Regex(pattern));
        // .NET counts surrogate pairs as two characters, and reads {,2} as text.
        foreach (string text in texts.Split(' '))
        {
            bool expected = pattern.Contains(".{2}", StringComparison.Ordinal) ? text.EnumerateRunes().Count() == 2
                : pattern.Contains("{,2}", StringComparison.Ordinal) ? text is "aab{" or "b{"
                : Regex.IsMatch(text, $"^(?:{pattern})$");
            Assert.True(expected == constrained.Matches(text), $"{pattern} on '{text}': expected {expected}");
        }
    }

    [Theory]
    [InlineData("^[a-z]+ [0-9]{2}(\\.[0-9]+)?$")]
    [InlineData("(foo|bar|b[aeiou]z)(, (foo|bar))*")]
    [InlineData("[^\"\\\\]{3,9}!")]
    [InlineData("\\s?\\S+\\s?")]
    public void WhatIsDrawnMatches(string pattern)
    {
        var constrained = new Constrained(OutputConstraint.Regex(pattern));
        var random = new Random(5);
        for (int i = 0; i < 40; i++)
        {
            if (constrained.Draw(random) is { } text)
                Assert.Matches($"^(?:{pattern})\\z", text);
        }
    }

    [Theory]
    [InlineData("(a")]
    [InlineData("a)")]
    [InlineData("*a")]
    [InlineData("a**b)")]
    [InlineData("[a")]
    [InlineData("[z-a]")]
    [InlineData("(?=a)")]
    [InlineData("(?<!a)b")]
    [InlineData("(a)\\1")]
    [InlineData("\\bword")]
    [InlineData("a++")]
    [InlineData("\\p{Nope}")]
    [InlineData("a{5,2}")]
    [InlineData("a{99999999}")]
    [InlineData("x(^a)")]
    [InlineData("\\")]
    [InlineData("\\uD800")]
    [InlineData("[]")]
    public void WhatIsNotRegularIsRefused(string pattern)
    {
        BadRequestException refusal = Assert.Throws<BadRequestException>(() => OutputConstraint.Regex(pattern));
        Assert.Matches("^regex: .* \\(line 1, character [0-9]+\\)\\.$", refusal.Message);
    }

    // Patterns made to blow up are cut off, quickly and in little memory.
    [Theory]
    [InlineData("((a{1000}){1000}){1000}")]
    [InlineData("(a|b)*a(a|b){25}")]
    [InlineData("((((((a?){50}){50}){50}){50}){50}){50}")]
    [InlineData("(.*x.*y.*z.*){200}")]
    [InlineData("\\p{L}{20000}")]
    public void HostilePatternsAreCutOff(string pattern)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<BadRequestException>(() => new Constrained(OutputConstraint.Regex(pattern)));
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 2_000_000_000);
    }
}
