namespace Qian.Inference.Formats;

// quantization_config -> QuantizationScheme. Every method, version and width that is not read is refused by name; a switch that
// would change values (rotations, sparsity, another packing) is refused rather than ignored.
internal static class QuantizationConfig
{
    private const int LargestGroup = 1 << 20;
    private const int MostGroups = 64;
    private const string Advice = "; use the BF16 or FP8 release, or a GGUF file";
    private const string Methods = "'fp8', 'awq', 'gptq', 'auto-round', 'compressed-tensors' or 'modelopt'";

    public static QuantizationScheme Read(JsonSection root, JsonSection text)
    {
        if ((root.OptionalSection("quantization_config") ?? text.OptionalSection("quantization_config")) is not JsonSection config)
            return QuantizationScheme.None;
        string method = config.OptionalText("quant_method") ?? throw config.Missing("quant_method");
        return method switch
        {
            "fp8" => new QuantizationScheme(QuantizationMethod.Fp8) { Fp8 = Blocks(config, "weight_block_size") },
            "awq" => Awq(config),
            "gptq" => Gptq(config),
            "auto-round" or "intel/auto-round" => AutoRound(config),
            "compressed-tensors" => CompressedTensors(config),
            "modelopt" => ModelOpt(config),
            _ => throw config.Wrong("quant_method", Methods, FileText.Quote(method) + Advice),
        };
    }

    private static QuantizationScheme Awq(JsonSection config)
    {
        FourBits(config, "bits");
        Only(config, "version", (config.OptionalText("version") ?? "gemm").ToLowerInvariant(), "gemm");
        if (config.OptionalBool("zero_point") == false)
            throw config.Wrong("zero_point", "true, as the 'gemm' version has it", "false" + Advice);
        return new QuantizationScheme(QuantizationMethod.Awq) { Int4 = [new Int4Scheme(GroupSize(config), IsSymmetric: false)] };
    }

    private static QuantizationScheme Gptq(JsonSection config)
    {
        FourBits(config, "bits");
        string version = config.OptionalText("checkpoint_format") ?? "gptq";
        if (version is not ("gptq" or "gptq_v2"))
            throw config.Wrong("checkpoint_format", "'gptq' or 'gptq_v2'", FileText.Quote(version) + Advice);
        return Gptq(config, zerosLackOne: version == "gptq");
    }

    private static QuantizationScheme Gptq(JsonSection config, bool zerosLackOne) => new(QuantizationMethod.Gptq)
    {
        Int4 = [new Int4Scheme(GroupSize(config), config.OptionalBool("sym") ?? throw config.Missing("sym"))],
        ZerosLackOne = zerosLackOne,
    };

    // AutoRound's exports have the tensors of the format that they name.
    private static QuantizationScheme AutoRound(JsonSection config)
    {
        FourBits(config, "bits");
        Only(config, "data_type", config.OptionalText("data_type") ?? "int", "int");
        string packing = config.OptionalText("packing_format") ?? throw config.Missing("packing_format");
        return packing switch
        {
            "auto_round:auto_gptq" => Gptq(config, zerosLackOne: true),
            "auto_round:auto_awq" => new QuantizationScheme(QuantizationMethod.Awq) { Int4 = [new Int4Scheme(GroupSize(config), config.OptionalBool("sym") ?? false)] },
            _ => throw config.Wrong("packing_format", "'auto_round:auto_gptq' or 'auto_round:auto_awq'", FileText.Quote(packing) + Advice),
        };
    }

    private static QuantizationScheme CompressedTensors(JsonSection config)
    {
        string format = config.OptionalText("format") ?? "";
        if (config.OptionalSection("sparsity_config") is { } sparsity && sparsity.OptionalText("format") is { } sparse && sparse != "dense")
            throw sparsity.Wrong("format", "'dense'", FileText.Quote(sparse) + Advice);
        if (config.OptionalSection("transform_config")?.OptionalSection("config_groups") is { } transforms && transforms.Fields().Any())
            throw config.Wrong("transform_config", "no transforms", "some" + Advice);
        var scheme = new QuantizationScheme(QuantizationMethod.CompressedTensors);
        if (config.OptionalSection("config_groups") is not { } groups)
        {
            Only(config, "format", format, "float-quantized");
            return scheme with { Fp8 = Blocks(config, "weight_block_size") };
        }

        int count = 0;
        foreach (JsonSection group in groups.Sections())
        {
            if (++count > MostGroups)
                throw config.Wrong("config_groups", $"at most {MostGroups} groups", "more");
            if (group.OptionalSection("weights") is not { } weights)
                continue;
            string groupFormat = group.OptionalText("format") ?? format;
            scheme = groupFormat switch
            {
                "float-quantized" => scheme with { Fp8 = Fp8(weights) },
                "pack-quantized" => scheme with { Int4 = [.. scheme.Int4, Int4(weights)] },
                "nvfp4-pack-quantized" => WithNvfp4(scheme, weights),
                _ => throw (group.Has("format") ? group : config).Wrong("format", "'pack-quantized', 'nvfp4-pack-quantized' or 'float-quantized'", FileText.Quote(groupFormat) + Advice),
            };
        }

        return scheme;
    }

    private static Fp8Blocks Fp8(JsonSection weights)
    {
        Only(weights, "type", weights.OptionalText("type") ?? "float", "float");
        if (weights.OptionalInteger("num_bits", 1, 64) is { } bits && bits != 8)
            throw weights.Wrong("num_bits", "8", $"{bits}{Advice}");
        return Blocks(weights, "block_structure");
    }

    private static Int4Scheme Int4(JsonSection weights)
    {
        FourBits(weights, "num_bits");
        Only(weights, "type", weights.OptionalText("type") ?? "int", "int");
        bool isSymmetric = weights.OptionalBool("symmetric") ?? true;
        string strategy = weights.OptionalText("strategy") ?? throw weights.Missing("strategy");
        return strategy switch
        {
            "group" => new Int4Scheme(weights.Integer("group_size", 1, LargestGroup), isSymmetric),
            "channel" => new Int4Scheme(0, isSymmetric),
            _ => throw weights.Wrong("strategy", "'group' or 'channel'", FileText.Quote(strategy) + Advice),
        };
    }

    private static QuantizationScheme WithNvfp4(QuantizationScheme scheme, JsonSection weights)
    {
        FourBits(weights, "num_bits");
        Only(weights, "type", weights.OptionalText("type") ?? "float", "float");
        SixteenColumns(weights);
        return scheme with { HasNvfp4 = true };
    }

    private static QuantizationScheme ModelOpt(JsonSection config)
    {
        string algorithm = config.OptionalText("quant_algo") ?? throw config.Missing("quant_algo");
        QuantizationScheme scheme = With(new QuantizationScheme(QuantizationMethod.ModelOpt), config, algorithm);
        if (config.OptionalSection("quantized_layers") is not { } layers)
            return scheme;
        foreach (JsonSection layer in layers.Sections())
            scheme = With(scheme, layer, layer.OptionalText("quant_algo") ?? throw layer.Missing("quant_algo"));
        return scheme;

        static QuantizationScheme With(QuantizationScheme scheme, JsonSection section, string algorithm)
        {
            if (algorithm is "NVFP4" or "W4A16_NVFP4")
                SixteenColumns(section);
            return algorithm switch
            {
                "NVFP4" or "W4A16_NVFP4" => scheme with { HasNvfp4 = true },
                "FP8" => scheme with { Fp8 = new Fp8Blocks(128, 128) },
                "MIXED_PRECISION" => scheme,
                _ => throw section.Wrong("quant_algo", "'NVFP4', 'W4A16_NVFP4', 'FP8' or 'MIXED_PRECISION'", FileText.Quote(algorithm) + Advice),
            };
        }
    }

    private static void SixteenColumns(JsonSection section)
    {
        if (section.OptionalInteger("group_size", 0, LargestGroup) is { } size && size != Nvfp4Tensor.GroupColumns)
            throw section.Wrong("group_size", $"{Nvfp4Tensor.GroupColumns}", $"{size}{Advice}");
    }

    // -1 stands for whole rows.
    private static int GroupSize(JsonSection config)
    {
        int size = config.Integer("group_size", -1, LargestGroup);
        return size != 0 ? Math.Max(size, 0) : throw config.Wrong("group_size", "-1 or more than 0", "0");
    }

    private static void FourBits(JsonSection config, string name)
    {
        int bits = config.Integer(name, 1, 64);
        if (bits != 4)
            throw config.Wrong(name, "4", $"{bits}{Advice}");
    }

    private static Fp8Blocks Blocks(JsonSection config, string name)
    {
        int[] sizes = config.OptionalIntegers(name, 1, LargestGroup, 2) ?? [128, 128];
        return sizes.Length == 2 ? new Fp8Blocks(sizes[0], sizes[1]) : throw config.Wrong(name, "two numbers", $"{sizes.Length}");
    }

    private static void Only(JsonSection section, string name, string found, string expected)
    {
        if (found != expected)
            throw section.Wrong(name, $"'{expected}'", FileText.Quote(found) + Advice);
    }
}
