using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

// A golden model with its matrices in one of the published 4-bit layouts, and beside it the same model as plain F32 with the values
// that the layout's definition gives. Written from the descriptions of the layouts, apart from the reader: indices spelled out, words
// put together code by code. What published files leave alone stays plain: layer 1, the projections of gates, embedding and head.
internal static class QuantizedFolder
{
    private const int Group = 32;

    private static readonly int[] s_awqOrder = [0, 2, 4, 6, 1, 3, 5, 7];
    private static readonly float[] s_levels = [0, 0.5f, 1, 1.5f, 2, 3, 4, 6];

    public static string[] Formats { get; } =
        ["awq", "gptq", "gptq-zeros", "gptq_v2-zeros", "gptq-order", "auto-round", "pack", "pack-zeros", "pack-rows", "pack-order", "nvfp4-pack", "modelopt", "mixed"];

    public static string Config(string format) => format switch
    {
        "awq" => """{"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": true, "version": "gemm", "modules_to_not_convert": ["model.layers.1."]}""",
        "gptq" => """{"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": true, "desc_act": false, "dynamic": {"-:.*layers.1.*": {}}}""",
        "gptq-zeros" => """{"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": false, "desc_act": false, "checkpoint_format": "gptq"}""",
        "gptq_v2-zeros" => """{"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": false, "desc_act": false, "checkpoint_format": "gptq_v2"}""",
        "gptq-order" => """{"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": true, "desc_act": true}""",
        "auto-round" => """{"quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": true, "data_type": "int", "packing_format": "auto_round:auto_gptq"}""",
        "pack" or "pack-order" => Compressed("pack-quantized", """{"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": true}"""),
        "pack-zeros" => Compressed("pack-quantized", """{"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": false}"""),
        "pack-rows" => Compressed("pack-quantized", """{"num_bits": 4, "type": "int", "strategy": "channel", "group_size": null, "symmetric": true}"""),
        "nvfp4-pack" => Compressed("nvfp4-pack-quantized", """{"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": true}"""),
        "modelopt" => """{"quant_method": "modelopt", "quant_algo": "NVFP4", "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 16}}}, "ignore": ["lm_head"]}""",
        _ => """
            {"quant_method": "compressed-tensors", "format": "mixed-precision", "quantization_status": "compressed", "sparsity_config": {}, "transform_config": {}, "config_groups": {
             "group_0": {"format": "float-quantized", "targets": [], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}},
             "group_1": {"format": "pack-quantized", "targets": [], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": false}},
             "group_2": {"format": "nvfp4-pack-quantized", "targets": [], "weights": {"num_bits": 4, "type": "float", "group_size": 16}}}}
            """,
    };

    // `spoil` may replace what stands for the tensors of layer 0's gate projection.
    public static void Write(string golden, string format, string packed, string? plain = null, Func<StoredBytes, IEnumerable<StoredBytes>>? spoil = null, Action<JsonObject>? changeConfig = null)
    {
        var exact = new Dictionary<string, StoredBytes>(StringComparer.Ordinal);
        var random = new Random(17);
        ModelFolders.Rewrite(
            golden, packed,
            tensor => [.. OneByOne(tensor).SelectMany(one => Replaced(one, FormOf(format, one), random, exact)).SelectMany(part => spoil is null ? [part] : spoil(part))],
            config =>
            {
                config["quantization_config"] = JsonNode.Parse(Config(format));
                changeConfig?.Invoke(config);
            });
        if (plain is not null)
            ModelFolders.Rewrite(golden, plain, tensor => [.. OneByOne(tensor).Select(one => exact.GetValueOrDefault(one.Name, one))]);
    }

    private static string Compressed(string format, string weights) =>
        """{"quant_method": "compressed-tensors", "format": "FORMAT", "quantization_status": "compressed", "ignore": ["lm_head"], "config_groups": {"group_0": {"targets": ["Linear"], "weights": WEIGHTS}, "group_1": {"weights": null}}}"""
            .Replace("FORMAT", format, StringComparison.Ordinal).Replace("WEIGHTS", weights, StringComparison.Ordinal);

    private static string FormOf(string format, StoredBytes tensor) => format != "mixed" ? format
        : tensor.Name.Contains("self_attn.", StringComparison.Ordinal) ? "fp8" : tensor.Name.Contains("linear_attn.", StringComparison.Ordinal) ? "pack-zeros" : "nvfp4-pack";

    private static IEnumerable<StoredBytes> Replaced(StoredBytes tensor, string form, Random random, Dictionary<string, StoredBytes> exact)
    {
        bool isMatrix = tensor.Sizes.Length == 2 && tensor.Name.EndsWith("_proj.weight", StringComparison.Ordinal) || tensor.Name.Contains("in_proj_qkv", StringComparison.Ordinal) || tensor.Name.Contains("in_proj_z", StringComparison.Ordinal);
        if (!isMatrix || tensor.Name.Contains("layers.1.", StringComparison.Ordinal))
            return [tensor];
        int rows = (int)tensor.Sizes[0], columns = (int)tensor.Sizes[1];
        var values = new float[rows * columns];
        WeightFormat.Decode(tensor.Type.AsWeightType()!.Value, tensor.Bytes, values);
        string stem = tensor.Name[..^"weight".Length];
        List<StoredBytes> parts = form switch
        {
            "fp8" => Fp8(stem, rows, columns, values),
            "nvfp4-pack" or "modelopt" => Nvfp4(stem, rows, columns, values, form == "modelopt"),
            _ => Int4(stem, rows, columns, values, form, random),
        };
        exact.Add(tensor.Name, new StoredBytes(tensor.Name, SafetensorsType.F32, tensor.Sizes, Bytes(values)));
        return parts;
    }

    // `values` become those that the codes stand for.
    private static List<StoredBytes> Int4(string stem, int rows, int columns, float[] values, string form, Random random)
    {
        bool symmetric = !form.Contains("zeros", StringComparison.Ordinal) && form != "awq";
        int size = form == "pack-rows" ? columns : Group, groups = columns / size;
        SafetensorsType scaleType = form.StartsWith("pack", StringComparison.Ordinal) ? SafetensorsType.BF16 : SafetensorsType.F16;
        int[] groupOf = [.. Enumerable.Range(0, columns).Select(c => c / size)];
        if (form.EndsWith("order", StringComparison.Ordinal))
            random.Shuffle(groupOf);
        var codes = new int[rows, columns];
        var zeros = new int[rows, groups];
        var scales = new float[rows, groups];
        for (int r = 0; r < rows; r++)
        {
            for (int g = 0; g < groups; g++)
            {
                float[] members = [.. Enumerable.Range(0, columns).Where(c => groupOf[c] == g).Select(c => values[r * columns + c])];
                // Zero points of every size, both ends too, but mostly near the middle.
                int zero = symmetric ? 8 : random.Next(8) == 0 ? random.Next(16) : random.Next(6, 11);
                float scale = members.Max(Math.Abs) / 8;
                scale = scaleType == SafetensorsType.BF16 ? BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(scale) & unchecked((int)0xFFFF0000)) : (float)(Half)scale;
                (zeros[r, g], scales[r, g]) = (zero, scale);
            }

            for (int c = 0; c < columns; c++)
            {
                int g = groupOf[c];
                codes[r, c] = Math.Clamp((int)MathF.Round(values[r * columns + c] / scales[r, g]) + zeros[r, g], 0, 15);
                values[r * columns + c] = (codes[r, c] - zeros[r, g]) * scales[r, g];
            }
        }

        StoredBytes Words(string name, int height, int width, Func<int, int, int, int> code)
        {
            var words = new uint[height * width];
            for (int y = 0; y < height; y++)
            {
                for (int x = 0; x < width; x++)
                {
                    for (int nibble = 0; nibble < 8; nibble++)
                        words[y * width + x] |= (uint)code(y, x, nibble) << 4 * nibble;
                }
            }

            if (name == "qzeros" && form != "awq" && form != "gptq_v2-zeros")
                words = Array.ConvertAll(words, word => unchecked(word - 0x11111111));
            return new StoredBytes(stem + name, SafetensorsType.I32, [height, width], Bytes(words));
        }

        StoredBytes Scales(string name, int height, int width, Func<int, int, float> scale)
        {
            float[] all = [.. Enumerable.Range(0, height * width).Select(i => scale(i / width, i % width))];
            byte[] bytes = new byte[all.Length * scaleType.ByteSize()];
            WeightFormat.Encode(scaleType.AsWeightType()!.Value, all, bytes);
            return new StoredBytes(stem + name, scaleType, [height, width], bytes);
        }

        StoredBytes order = new(stem + (form.StartsWith("pack", StringComparison.Ordinal) ? "weight_g_idx" : "g_idx"), SafetensorsType.I32, [columns], Bytes(groupOf));
        if (form == "awq")
        {
            return
            [
                Words("qweight", columns, rows / 8, (c, word, nibble) => codes[8 * word + s_awqOrder[nibble], c]),
                Words("qzeros", groups, rows / 8, (g, word, nibble) => zeros[8 * word + s_awqOrder[nibble], g]),
                Scales("scales", groups, rows, (g, r) => scales[r, g]),
            ];
        }

        if (!form.StartsWith("pack", StringComparison.Ordinal))
        {
            List<StoredBytes> parts =
            [
                Words("qweight", columns / 8, rows, (word, r, nibble) => codes[r, 8 * word + nibble]),
                Words("qzeros", groups, rows / 8, (g, word, nibble) => zeros[8 * word + nibble, g]),
                Scales("scales", groups, rows, (g, r) => scales[r, g]),
            ];
            return form == "auto-round" ? parts : [.. parts, order];
        }

        List<StoredBytes> packed =
        [
            Words("weight_packed", rows, columns / 8, (r, word, nibble) => codes[r, 8 * word + nibble]),
            Scales("weight_scale", rows, groups, (r, g) => scales[r, g]),
            new StoredBytes(stem + "weight_shape", SafetensorsType.I64, [2], Bytes<long>([rows, columns])),
        ];
        if (!symmetric)
            packed.Add(Words("weight_zero_point", (rows + 7) / 8, groups, (word, g, nibble) => 8 * word + nibble < rows ? zeros[8 * word + nibble, g] : 0));
        if (form == "pack-order")
            packed.Add(order);
        return packed;
    }

    private static List<StoredBytes> Nvfp4(string stem, int rows, int columns, float[] values, bool modelOpt)
    {
        // The factor puts the largest scale near the top of its type.
        float stored = modelOpt ? values.Max(Math.Abs) / 6 / 300 : 300 * 6 / values.Max(Math.Abs);
        float factor = modelOpt ? stored : 1 / stored;
        byte[] codes = new byte[rows * columns / 2], scales = new byte[rows * columns / 16];
        for (int block = 0; block < scales.Length; block++)
        {
            float peak = values.AsSpan(block * 16, 16).ToArray().Max(Math.Abs) / 6 / factor;
            scales[block] = (byte)Enumerable.Range(0, 0x7F).MinBy(code => Math.Abs(E4M3((byte)code) - peak));
            float scale = E4M3(scales[block]);
            for (int i = block * 16; i < block * 16 + 16; i++)
            {
                int level = scale == 0 ? 0 : Enumerable.Range(0, 8).MinBy(code => Math.Abs(s_levels[code] * scale * factor - Math.Abs(values[i])));
                codes[i / 2] |= (byte)((level | (values[i] < 0 ? 8 : 0)) << 4 * (i % 2));
                values[i] = (values[i] < 0 ? -s_levels[level] : s_levels[level]) * scale * factor;
            }
        }

        return
        [
            new StoredBytes(stem + (modelOpt ? "weight" : "weight_packed"), SafetensorsType.U8, [rows, columns / 2], codes),
            new StoredBytes(stem + "weight_scale", SafetensorsType.F8E4M3, [rows, columns / 16], scales),
            new StoredBytes(stem + (modelOpt ? "weight_scale_2" : "weight_global_scale"), SafetensorsType.F32, modelOpt ? [] : [1], Bytes([stored])),
            new StoredBytes(stem + (modelOpt ? "input_scale" : "input_global_scale"), SafetensorsType.F32, [1], Bytes([3f])),
            .. stem.EndsWith("self_attn.k_proj.", StringComparison.Ordinal) ? (StoredBytes[])[new StoredBytes(stem + "k_scale", SafetensorsType.F32, [1], Bytes([1f]))] : [],
            .. stem.EndsWith("self_attn.v_proj.", StringComparison.Ordinal) ? (StoredBytes[])[new StoredBytes(stem[..^"v_proj.".Length] + "v_scale", SafetensorsType.F32, [1], Bytes([1f]))] : [],
        ];
    }

    private static List<StoredBytes> Fp8(string stem, int rows, int columns, float[] values)
    {
        byte[] codes = new byte[rows * columns];
        float[] scales = new float[rows];
        for (int i = 0; i < values.Length; i++)
        {
            if (i % columns == 0)
                scales[i / columns] = values.AsSpan(i, columns).ToArray().Max(Math.Abs) / 448;
            float scale = scales[i / columns], wanted = values[i];
            codes[i] = (byte)(Enumerable.Range(0, 0x7F).MinBy(code => Math.Abs(E4M3((byte)code) * scale - Math.Abs(wanted))) | (wanted < 0 ? 0x80 : 0));
            values[i] = (wanted < 0 ? -1 : 1) * E4M3((byte)(codes[i] & 0x7F)) * scale;
        }

        return [new StoredBytes(stem + "weight", SafetensorsType.F8E4M3, [rows, columns], codes), new StoredBytes(stem + "weight_scale", SafetensorsType.F32, [rows, 1], Bytes(scales))];
    }

    // Experts that one tensor holds, as quantised files have them: each on its own.
    public static IEnumerable<StoredBytes> OneByOne(StoredBytes tensor)
    {
        bool gateUp = tensor.Name.EndsWith("experts.gate_up_proj", StringComparison.Ordinal);
        if (!gateUp && !tensor.Name.EndsWith("experts.down_proj", StringComparison.Ordinal))
            return [tensor];
        string stem = tensor.Name[..(tensor.Name.LastIndexOf('.') + 1)];
        string[] names = gateUp ? ["gate_proj", "up_proj"] : ["down_proj"];
        long rows = tensor.Sizes[1] / names.Length;
        int size = (int)(rows * tensor.Sizes[2] * 2);
        return Enumerable.Range(0, (int)tensor.Sizes[0] * names.Length).Select(i => new StoredBytes(
            $"{stem}{i / names.Length}.{names[i % names.Length]}.weight", tensor.Type, [rows, tensor.Sizes[2]], tensor.Bytes[(i * size)..((i + 1) * size)]));
    }

    private static float E4M3(byte code)
    {
        int exponent = code >> 3 & 15, mantissa = code & 7;
        return (float)(exponent == 0 ? mantissa * Math.Pow(2, -9) : (8 + mantissa) * Math.Pow(2, exponent - 10));
    }

    private static byte[] Bytes<T>(T[] values)
        where T : unmanaged => MemoryMarshal.AsBytes<T>(values).ToArray();
}
