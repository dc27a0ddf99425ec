using System.Text.Json.Nodes;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

// Folders in the published 4-bit layouts: values by the definition, held without loss where blocks exist, logits of the plain model,
// and everything that does not fit together named.
public sealed class QuantizedFolderTests
{
    private const string Gate = "model.language_model.layers.0.mlp.gate_proj.";

    public static TheoryData<string> Formats => [.. QuantizedFolder.Formats];

    [Theory]
    [MemberData(nameof(Formats))]
    public void ValuesAreThoseOfTheDefinition(string format)
    {
        string[] goldens = format is "awq" or "pack-zeros" or "modelopt" ? [ModelFolders.Dense, ModelFolders.Moe, ModelFolders.Mtp] : [ModelFolders.Dense];
        foreach (string golden in goldens)
        {
            using TempFolder packed = new(), plain = new();
            QuantizedFolder.Write(golden, format, packed.Path, plain.Path);
            using Checkpoint actual = Checkpoint.Open(packed.Path), expected = Checkpoint.Open(plain.Path);
            foreach ((TensorRole role, int layer, int expert) in ModelFolders.Places(expected.Config))
                Assert.Equal(ModelFolders.Values(expected, role, layer, expert)!, ModelFolders.Values(actual, role, layer, expert)!);
            Assert.DoesNotContain(actual.Tensors, tensor => tensor.Role is null);
            Assert.Equal(expected.Tensors.Sum(tensor => tensor.ParameterCount), actual.Tensors.Sum(tensor => tensor.ParameterCount));
            Assert.Null(expected.Quantization);
            Assert.NotNull(actual.Quantization);
            // What is there as it was is taken as it is.
            Assert.Equal(WeightType.BF16, (actual.Config.IsMoe ? actual.Require(TensorRole.ExpertGate, 1, 0) : actual.Require(TensorRole.FfnGate, 1)).Type);
        }
    }

    [Theory]
    [InlineData("awq", "Q8_0", "AWQ int4 in groups of 32, with zero points")]
    [InlineData("gptq", "Q4_0", "GPTQ int4 in groups of 32, symmetric")]
    [InlineData("gptq-zeros", "Q8_0", "GPTQ int4 in groups of 32, with zero points")]
    [InlineData("auto-round", "Q4_0", "GPTQ int4 in groups of 32, symmetric")]
    [InlineData("pack", "Q4_0", "compressed-tensors int4 in groups of 32, symmetric")]
    [InlineData("pack-zeros", "Q8_0", "compressed-tensors int4 in groups of 32, with zero points")]
    [InlineData("pack-rows", "Q4_0", "compressed-tensors int4 in rows, symmetric")]
    [InlineData("nvfp4-pack", "NVFP4", "compressed-tensors NVFP4")]
    [InlineData("modelopt", "NVFP4", "ModelOpt NVFP4")]
    public void WhatHasBlocksIsHeldWithoutLoss(string format, string type, string description)
    {
        using TempFolder packed = new(), plain = new();
        QuantizedFolder.Write(ModelFolders.Dense, format, packed.Path, plain.Path);
        using Checkpoint expected = Checkpoint.Open(plain.Path);
        using LoadedModel model = Load(packed.Path);
        Assert.Equal(description, model.Checkpoint.Quantization);
        WeightMatrix gate = model.Weights.Layers[0].Mlp!.Gate;
        Assert.Equal((type, true), (WeightFormat.Name(gate.Type), gate.IsPacked));
        float[] wanted = ModelFolders.Values(expected, TensorRole.FfnGate, 0)!;
        var row = new float[gate.ColumnCount];
        for (int r = 0; r < gate.RowCount; r++)
        {
            gate.DecodeRow(r, row);
            Assert.Equal(wanted.AsSpan(r * row.Length, row.Length).ToArray(), row);
        }

        Assert.Contains(model.LoadNotes, note => note.EndsWith($"are held as {type}, value for value", StringComparison.Ordinal));
        LoadPolicy policy = new(Exact: false, LoadAs: null, Mtp: false);
        TensorSource source = model.Checkpoint.Require(TensorRole.FfnGate, 0);
        Assert.Equal(WeightMatrix.PackedBytes(gate.Type, gate.RowCount, gate.ColumnCount), policy.OwnedBytes(source, isLookup: false));
    }

    [Theory]
    [InlineData("gptq-order", "GPTQ int4")]
    [InlineData("pack-order", "compressed-tensors int4")]
    public void ColumnsInTheOrderOfActivationsAreRoundedAndThatIsSaid(string format, string encoding)
    {
        using var packed = new TempFolder();
        QuantizedFolder.Write(ModelFolders.Dense, format, packed.Path);
        using LoadedModel model = Load(packed.Path);
        Assert.Equal(WeightType.Q8_0, model.Weights.Layers[0].Mlp!.Gate.Type);
        Assert.Contains(model.LoadNotes, note => note.EndsWith($"stored as {encoding} are held as Q8_0, rounded anew", StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void LogitsAreThoseOfThePlainModel(string format)
    {
        using TempFolder packed = new(), plain = new();
        QuantizedFolder.Write(ModelFolders.Dense, format, packed.Path, plain.Path);
        float[][] expected = Logits(plain.Path, exact: true), packedExactly = Logits(packed.Path, exact: true);
        Assert.Equal(expected.SelectMany(logits => logits), packedExactly.SelectMany(logits => logits));
        // Otherwise inputs are rounded to 8 bits: that far off, and no further, is the plain model too when its matrices are held in
        // 8 bits. A model this small turns some prompt or other into something else altogether: the median tells.
        double error = Distance(expected, Logits(packed.Path, exact: false));
        double usual = Distance(expected, Logits(plain.Path, exact: false, WeightType.Q8_0));
        Assert.True(error > 0 && error < 1.5 * usual, FormattableString.Invariant($"off by {error:g3}, the plain model in Q8_0 by {usual:g3}"));
    }

    [Fact]
    public void AnNvfp4FileKeepsItsBlocksAndItsFactor()
    {
        using var folder = new TempFolder();
        byte[] blocks = new byte[WeightFormat.RowBytes(WeightType.NVFP4, 256) * 768];
        new Random(5).NextBytes(blocks);
        ModelFolders.RewriteGguf(ModelFolders.Gguf, folder.File("m.gguf"), _ => true, _ => { }, tensor => tensor.Name != "blk.1.ffn_up.weight"
            ? ModelFolders.Same(tensor)
            : [(tensor.Name, WeightType.NVFP4, [256, 768], blocks), ("blk.1.ffn_up.scale", WeightType.F32, [1], BitConverter.GetBytes(0.0375f))]);
        using LoadedModel model = Load(folder.File("m.gguf"));
        WeightMatrix up = model.Weights.Layers[1].Mlp!.Up;
        Assert.Equal((WeightType.NVFP4, 0.0375f, true), (up.Type, up.Factor, up.IsPacked));
        float[] wanted = ModelFolders.Values(model.Checkpoint, TensorRole.FfnUp, 1)!;
        var row = new float[256];
        up.DecodeRow(700, row);
        Assert.Equal(wanted.AsSpan(700 * 256, 256).ToArray(), row);
    }

    [Theory]
    [InlineData("awq", "qweight", "shape", Gate + "qweight': expected I32 [128, 32] by config.json, found I32 [32, 128]")]
    [InlineData("awq", "qweight", "type", Gate + "qweight': I16 codes, which do not belong to 'quantization_config'")]
    [InlineData("awq", "qzeros", "missing", Gate + "qzeros' is missing")]
    [InlineData("awq", "qzeros", "shape", Gate + "qzeros': expected I32 [4, 32] by config.json, found I32 [32, 4]")]
    [InlineData("awq", "scales", "missing", Gate + "scales' is missing")]
    [InlineData("awq", "scales", "shape", Gate + "scales': [256, 4] scales for 128 columns do not belong to 'quantization_config' of config.json (AWQ int4 in groups of 32, with zero points)")]
    [InlineData("awq", "scales", "type", Gate + "scales': expected scales of a float type, found I16")]
    [InlineData("awq", "qweight", "smoothed", Gate + "pre_quant_scale': matrices whose inputs have to be scaled are not supported")]
    [InlineData("gptq", "qweight", "shape", Gate + "qweight': expected I32 [16, 256] by config.json, found I32 [256, 16]")]
    [InlineData("gptq", "g_idx", "range", Gate + "g_idx': expected groups from 0 to 3, found 4; the file is damaged")]
    [InlineData("gptq", "g_idx", "shape", Gate + "g_idx': expected 128 integers, found I32 [64]")]
    [InlineData("pack", "weight_packed", "shape", Gate + "weight_packed': expected I32 [256, 16] by config.json, found I32 [16, 256]")]
    [InlineData("pack", "weight_shape", "range", Gate + "weight_shape': expected [256, 128] by config.json, found [4, 4]")]
    [InlineData("pack-zeros", "weight_zero_point", "missing", Gate + "weight_scale': [256, 4] scales and no zero points for 128 columns do not belong")]
    [InlineData("nvfp4-pack", "weight_packed", "shape", Gate + "weight_packed': expected U8 [256, 64] by config.json, found U8 [64, 256]")]
    [InlineData("nvfp4-pack", "weight_scale", "missing", Gate + "weight_scale' is missing")]
    [InlineData("nvfp4-pack", "weight_scale", "shape", Gate + "weight_scale': expected F8_E4M3 [256, 8] by config.json, found F8_E4M3 [8, 256]")]
    [InlineData("nvfp4-pack", "weight_global_scale", "zero", Gate + "weight_global_scale': a factor of")]
    [InlineData("modelopt", "weight_scale_2", "zero", Gate + "weight_scale_2': a factor of 0")]
    [InlineData("modelopt", "weight_scale_2", "missing", Gate + "weight_scale_2' is missing")]
    public void AWrongPartIsNamed(string format, string part, string fault, string message)
    {
        using var folder = new TempFolder();
        QuantizedFolder.Write(ModelFolders.Dense, format, folder.Path, spoil: tensor => tensor.Name != Gate + part ? [tensor] : fault switch
        {
            "missing" => [],
            "shape" when tensor.Sizes.Length == 1 => [tensor with { Sizes = [64], Bytes = tensor.Bytes[..256] }],
            "shape" => [tensor with { Sizes = [tensor.Sizes[1], tensor.Sizes[0]] }],
            "type" => [tensor with { Type = SafetensorsType.I16, Sizes = [tensor.Bytes.Length / 2 / tensor.Sizes[1], tensor.Sizes[1]] }],
            "zero" => [tensor with { Bytes = new byte[4] }],
            "smoothed" => [tensor, new StoredBytes(Gate + "pre_quant_scale", SafetensorsType.F32, [1], new byte[4])],
            _ => [tensor with { Bytes = [.. Enumerable.Range(0, tensor.Bytes.Length).Select(i => (byte)(i % tensor.Type.ByteSize() == 0 ? 4 : 0))] }],
        });
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => checkpoint.Require(TensorRole.FfnGate, 0)).Message);
    }

    [Theory]
    [InlineData("gptq", "qzeros", "a zero point other than 8, although quantization_config says that codes are symmetric")]
    [InlineData("nvfp4-pack", "weight_scale", "a scale that is negative or not a number")]
    public void WrongContentsAreNamedWhenTheyAreRead(string format, string part, string message)
    {
        using var folder = new TempFolder();
        QuantizedFolder.Write(ModelFolders.Dense, format, folder.Path, spoil: tensor => tensor.Name != Gate + part ? [tensor] : [tensor with { Bytes = [.. tensor.Bytes[..^1], 0x87] }]);
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        TensorSource source = checkpoint.Require(TensorRole.FfnGate, 0);
        var values = new float[128];
        source.DecodeRows(0, 1, values);
        Assert.Contains($"{message}; the file is damaged", Assert.Throws<BadModelFileException>(() => source.DecodeRows(255, 1, values)).Message);
        Assert.Contains(Gate, Assert.Throws<BadModelFileException>(() => Load(folder.Path)).Message);
    }

    [Fact]
    public void AScaleBeyondHalfFloatsIsNamedWhenTheModelIsLoaded()
    {
        using var folder = new TempFolder();
        QuantizedFolder.Write(ModelFolders.Dense, "pack", folder.Path, spoil: tensor => tensor.Name != Gate + "weight_scale" ? [tensor] : [tensor with { Bytes = [.. tensor.Bytes[..^1], 0x7E] }]);
        Assert.Contains("row 255: a scale of", Assert.Throws<BadModelFileException>(() => Load(folder.Path)).Message);
    }

    [Theory]
    [InlineData("group_size", "64", "scales': [4, 256] scales for 128 columns do not belong to 'quantization_config' of config.json (GPTQ int4 in groups of 64, symmetric)")]
    [InlineData("quant_method", "\"fp8\"", "qweight': I32 codes, which do not belong to 'quantization_config' of config.json (FP8")]
    public void AConfigurationOfAnotherFileIsSaidToBeOne(string field, string value, string message)
    {
        using var folder = new TempFolder();
        QuantizedFolder.Write(ModelFolders.Dense, "gptq", folder.Path, changeConfig: config => config["quantization_config"]![field] = JsonNode.Parse(value));
        using Checkpoint checkpoint = Checkpoint.Open(folder.Path);
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => checkpoint.Require(TensorRole.FfnGate, 0)).Message);
    }

    private static LoadedModel Load(string path, bool exact = false, WeightType? type = null) =>
        LoadedModel.Load(Checkpoint.Open(path), new EngineOptions { MaxBatchRows = 32, ExactArithmetic = exact, LoadAs = type, ThreadCount = 1 }, contextLength: 64, maxBlocks: 8);

    // Median over the prompts of the relative error.
    private static double Distance(float[][] expected, float[][] actual)
    {
        double[] errors = [.. expected.Zip(actual, (e, a) => Math.Sqrt(e.Zip(a, (x, y) => Math.Pow(x - (double)y, 2)).Sum() / e.Sum(x => (double)x * x))).Order()];
        return errors[errors.Length / 2];
    }

    // Of every token of some short texts.
    private static float[][] Logits(string path, bool exact, WeightType? type = null)
    {
        using LoadedModel model = Load(path, exact, type);
        return [.. Enumerable.Range(0, 9).Select(prompt => Logits(model, [.. Enumerable.Range(0, 20).Select(i => (i * 23 + prompt * 31) % model.Config.VocabularySize)]))];
    }

    private static float[] Logits(LoadedModel model, int[] ids)
    {
        using SequenceState sequence = model.NewSequence();
        Assert.True(sequence.TryReserve(ids.Length));
        var batch = new ForwardBatch(32);
        batch.Add(sequence, ids);
        model.Network.Forward(batch);
        using NativeBuffer logits = NativeBuffer.AllocateFloats(model.Config.VocabularySize);
        var all = new List<float>();
        for (int row = 0; row < ids.Length; row++)
        {
            model.Network.Logits([row], logits.AllFloats);
            all.AddRange(logits.AllFloats.Span);
        }

        return [.. all];
    }
}
