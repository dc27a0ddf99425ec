using System.Text.RegularExpressions;
using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime.Sampling;

public sealed class SamplingOptionsTests
{
    public static TheoryData<SamplingOptions, string> Bad => new()
    {
        { new() { Temperature = -1 }, "Temperature: expected a number from 0 to 100, found -1." },
        { new() { Temperature = float.NaN }, "Temperature: expected a number from 0 to 100, found NaN." },
        { new() { TopK = -1 }, "TopK: expected an integer of 0 or more, found -1." },
        { new() { TopP = 1.5f }, "TopP: expected a number from 0 to 1, found 1.5." },
        { new() { MinP = -0.5f }, "MinP: expected a number from 0 to 1, found -0.5." },
        { new() { PresencePenalty = 101 }, "PresencePenalty: expected a number from -100 to 100, found 101." },
        { new() { FrequencyPenalty = float.PositiveInfinity }, "FrequencyPenalty: expected a number from -100 to 100, found Infinity." },
        { new() { RepetitionPenalty = 0 }, "RepetitionPenalty: expected a number from 0.01 to 100, found 0." },
        { new() { RepetitionWindow = -5 }, "RepetitionWindow: expected an integer of 0 or more, found -5." },
        { new() { MaxTokens = 0 }, "MaxTokens: expected an integer of 1 or more, found 0." },
        { new() { LogProbs = 129 }, "LogProbs: expected an integer from 0 to 128, found 129." },
        { new() { ThinkingBudget = -1 }, "ThinkingBudget: expected an integer of 0 or more, found -1." },
        { new() { StopStrings = ["a", ""] }, "StopStrings[1]: expected a string that is not empty, found an empty string." },
        { new() { StopStrings = [new string('x', 5000)] }, "StopStrings[0]: expected at most 4096 characters, found 5000." },
        { new() { StopStrings = [.. Enumerable.Repeat("x", 65)] }, "StopStrings: expected at most 64 strings, found 65." },
        { new() { StopTokenIds = [4, -4] }, "StopTokenIds: expected token ids of 0 or more, found -4." },
        { new() { LogitBias = new Dictionary<int, float> { [-1] = 0 } }, "LogitBias key: expected a token id of 0 or more, found -1." },
        { new() { LogitBias = new Dictionary<int, float> { [8] = float.NaN } }, "LogitBias[8]: expected a number, found NaN." },
        { new() { Dry = new() { Base = 0.5f } }, "Dry.Base: expected a number from 1 to 100, found 0.5." },
        { new() { Dry = new() { AllowedLength = 0 } }, "Dry.AllowedLength: expected an integer of 1 or more, found 0." },
        { new() { Dry = new() { SequenceBreakers = [""] } }, "Dry.SequenceBreakers[0]: expected a string that is not empty, found an empty string." },
    };

    [Theory]
    [MemberData(nameof(Bad))]
    public void ValidationNamesFieldExpectedAndFound(SamplingOptions options, string message)
    {
        Assert.Equal(message, Assert.Throws<BadRequestException>(options.Validate).Message);
    }

    [Fact]
    public void WhateverPassesValidationSamples()
    {
        var random = new Random(8);
        float[] floats = [float.NaN, float.NegativeInfinity, float.PositiveInfinity, -1, -0f, 0, float.Epsilon, 1e-6f, 1e-5f, 0.01f, 0.5f, 1, 1.5f, 2, 100, float.MaxValue];
        int[] integers = [int.MinValue, -1, 0, 1, 2, 3, 20, 256, 300, 1024, int.MaxValue];
        // Mostly absent, so that many requests pass.
        float? Float() => random.Next(3) == 0 ? floats[random.Next(floats.Length)] : null;
        int? Integer() => random.Next(4) == 0 ? integers[random.Next(integers.Length)] : null;
        int passed = 0, refused = 0;
        var message = new Regex(@"^[A-Za-z.]+(\[\d+\])?( key)?: expected .+, found .+\.$");
        for (int round = 0; round < 3000; round++)
        {
            var options = new SamplingOptions
            {
                Temperature = Float(),
                TopK = Integer(),
                TopP = Float(),
                MinP = Float(),
                PresencePenalty = Float(),
                FrequencyPenalty = Float(),
                RepetitionPenalty = Float(),
                RepetitionWindow = Integer(),
                MaxTokens = Integer(),
                ThinkingBudget = Integer(),
                LogProbs = Integer(),
                Seed = (ulong)round,
                Dry = random.Next(3) == 0 ? new DryOptions { Multiplier = Float() ?? 1, Base = Float() ?? 2, Range = Integer() ?? 0, AllowedLength = Integer() ?? 1 } : null,
                LogitBias = random.Next(3) == 0 ? new Dictionary<int, float> { [Integer() ?? 4] = Float() ?? 0 } : null,
            };
            try
            {
                var sampler = new Sampler(options, VocabularyMask.All(300), 64);
                sampler.Begin([1, 2, 1, 2]);
                for (int i = 0; i < 6; i++)
                {
                    int token = sampler.Sample(SamplerReference.Logits(300, round));
                    Assert.InRange(token, 0, 299);
                    sampler.Accept(token);
                }

                passed++;
            }
            catch (BadRequestException error)
            {
                Assert.Matches(message, error.Message);
                refused++;
            }
        }

        Assert.True(passed > 300 && refused > 300, $"{passed} passed, {refused} refused");
    }

    [Fact]
    public void MergeTakesEachFieldFromTheFirstLayerThatSetsIt()
    {
        var request = new SamplingOptions { Temperature = 0.2f, StopStrings = ["x"] };
        var preset = new SamplingOptions { Temperature = 0.7f, TopP = 0.8f, PresencePenalty = 1.5f };
        var file = new SamplingOptions { Temperature = 0.9f, TopP = 0.5f, TopK = 33, Seed = 4 };
        SamplingOptions merged = SamplingOptions.Merge(request, preset, file);
        Assert.Equal((0.2f, 0.8f, 33, 1.5f, 4UL), (merged.Temperature, merged.TopP, merged.TopK, merged.PresencePenalty, merged.Seed));
        Assert.Equal((0f, 1f, 0, false), (merged.MinP, merged.RepetitionPenalty, merged.RepetitionWindow, merged.IgnoreEos));
        Assert.Equal(["x"], merged.StopStrings!);
        Assert.Null(merged.MaxTokens);
        merged.Validate();
    }

    [Fact]
    public void MergeForgetsNoField()
    {
        var full = new SamplingOptions
        {
            Temperature = 2,
            TopK = 2,
            TopP = 0.2f,
            MinP = 0.2f,
            PresencePenalty = 2,
            FrequencyPenalty = 2,
            RepetitionPenalty = 2,
            RepetitionWindow = 2,
            Dry = new(),
            LogitBias = new Dictionary<int, float>(),
            Seed = 2,
            MaxTokens = 2,
            StopStrings = ["2"],
            StopTokenIds = [2],
            LogProbs = 2,
            ThinkingBudget = 2,
            DraftTokens = 2,
            Constraint = OutputConstraint.JsonObject,
            IgnoreEos = true,
            LoopGuard = false,
        };
        Assert.All(typeof(SamplingOptions).GetProperties().Where(p => p.GetMethod!.IsPublic && !p.GetMethod.IsStatic), p => Assert.NotNull(p.GetValue(full)));
        Assert.Equal(full, SamplingOptions.Merge(full, SamplingOptions.Greedy));
        Assert.Equal(full, SamplingOptions.Merge(null, full));
        Assert.Equal(full, SamplingOptions.Merge(null, null, full));
    }

    [Fact]
    public void GreedyIgnoresThePenaltiesOfLowerLayers()
    {
        SamplingOptions merged = SamplingOptions.Merge(SamplingOptions.Greedy, SamplingPresets.For("Qwen3.6-27B", SamplingMode.NonThinking));
        Assert.Equal((0f, 0f, 1f), (merged.Temperature, merged.PresencePenalty, merged.RepetitionPenalty));
    }

    [Theory]
    [InlineData("Qwen3.6-27B", 0f)]
    [InlineData("qwen3.6 27b instruct", 0f)]
    [InlineData("Qwen3_6-35B-A3B-Q4_K_M", 0f)]
    [InlineData("unsloth_Qwen3.6-27B-UD-Q4_K_XL", 0f)]
    [InlineData("Qwen 3.6", 0f)]
    [InlineData("Qwen3.5-0.8B", 1.5f)]
    [InlineData("QWEN3.5", 1.5f)]
    [InlineData("qwen35-9b", 1.5f)]
    public void PresetsFollowTheCards(string name, float thinkingPresence)
    {
        Assert.Equal((1f, 0.95f, 20, 0f, thinkingPresence, 1f), Tuple(SamplingPresets.For(name, SamplingMode.Thinking)!));
        Assert.Equal((0.6f, 0.95f, 20, 0f, 0f, 1f), Tuple(SamplingPresets.For(name, SamplingMode.ThinkingCoding)!));
        Assert.Equal((0.7f, 0.8f, 20, 0f, 1.5f, 1f), Tuple(SamplingPresets.For(name, SamplingMode.NonThinking)!));

        static (float?, float?, int?, float?, float?, float?) Tuple(SamplingOptions o) => (o.Temperature, o.TopP, o.TopK, o.MinP, o.PresencePenalty, o.RepetitionPenalty);
    }

    [Theory]
    [InlineData("")]
    [InlineData("tiny")]
    [InlineData("Qwen3-8B")]
    [InlineData("Qwen3_6B")]
    [InlineData("Qwen2.5-7B")]
    [InlineData("Qwen3.8-27B")]
    [InlineData("Llama-3.6")]
    [InlineData("qwen")]
    public void OtherNamesHaveNoPreset(string name) => Assert.Null(SamplingPresets.For(name, SamplingMode.Thinking));
}
