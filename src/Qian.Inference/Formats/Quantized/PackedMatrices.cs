using System.Runtime.InteropServices;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// The matrices of a Hugging Face folder that are stored as several tensors: FP8 with multipliers, AWQ, GPTQ, compressed-tensors,
// NVFP4. Knows what the parts are called and checks every part's type and shape against the matrix and quantization_config before
// anything is read. A matrix that is there as plain `weight` was left as it is, whatever a list in the configuration says.
internal sealed class PackedMatrices
{
    private const string Weight = "weight";

    // What may stand in the place of `weight`, and beside it.
    private static readonly string[] s_forms = ["qweight", "weight_packed"];
    private static readonly string[] s_parts =
    [
        .. s_forms, Weight, "weight_scale_inv", "weight_scale", "weight_scale_2", "weight_global_scale", "weight_zero_point", "weight_shape", "weight_g_idx",
        "qzeros", "scales", "g_idx", "input_scale", "input_global_scale", "output_scale", "q_scale", "k_scale", "v_scale",
    ];

    private readonly SafetensorsSet _set;
    private readonly QuantizationScheme _scheme;
    private readonly string _path;

    public PackedMatrices(SafetensorsSet set, QuantizationScheme scheme, string path)
    {
        (_set, _scheme, _path) = (set, scheme, path);
    }

    // The tensor that stands for a weight: of its name, or the codes of a quantised one. Null when there is neither.
    public SafetensorsTensor? Find(string weightName)
    {
        if (_set.Find(weightName) is { } plain || !weightName.EndsWith("." + Weight, StringComparison.Ordinal))
            return _set.Find(weightName);
        foreach (string form in s_forms)
        {
            if (_set.Find(weightName[..^Weight.Length] + form) is { } codes)
                return codes;
        }

        return null;
    }

    // True for tensors whose own shape is not that of the matrix.
    public static bool IsPacked(SafetensorsTensor tensor) => Array.IndexOf(s_forms, PartOf(tensor.Name).Part) >= 0 || tensor.Type == SafetensorsType.U8;

    // The weight that a tensor is a part of, by its name alone.
    public static string WeightOf(string name)
    {
        (string stem, string part) = PartOf(name);
        if (Array.IndexOf(s_parts, part) < 0)
            return name;
        // Scales of cached keys and values stand beside the projections.
        bool besideProjections = part is "q_scale" or "k_scale" or "v_scale" && stem.EndsWith("self_attn.", StringComparison.Ordinal);
        return besideProjections ? $"{stem}{part[0]}_proj.{Weight}" : stem + Weight;
    }

    // How many of the model's parameters the tensor holds: eight codes a word, two a byte, none in what belongs to codes.
    public static long ParameterCount(SafetensorsTensor tensor)
    {
        string part = PartOf(tensor.Name).Part;
        long elements = tensor.Data.Length / tensor.Type.ByteSize();
        if (IsPacked(tensor))
            return elements * (tensor.Type == SafetensorsType.U8 ? 2 : 8);
        return part != Weight && Array.IndexOf(s_parts, part) >= 0 || part.EndsWith("_scale_inv", StringComparison.Ordinal) || part.EndsWith("_scale", StringComparison.Ordinal) ? 0 : elements;
    }

    // `tensor` is what Find gave.
    public TensorSource Open(SafetensorsTensor tensor, int rows, int columns)
    {
        (string stem, string part) = PartOf(tensor.Name);
        if (_set.Find(stem + "pre_quant_scale") is { } smoothing)
            throw Bad(smoothing.Name, "matrices whose inputs have to be scaled are not supported; use the BF16 or FP8 release, or a GGUF file");
        return (part, tensor.Type, _scheme.Method) switch
        {
            ("qweight", SafetensorsType.I32, QuantizationMethod.Awq) => Awq(tensor, stem, rows, columns),
            ("qweight", SafetensorsType.I32, QuantizationMethod.Gptq) => Gptq(tensor, stem, rows, columns),
            ("weight_packed", SafetensorsType.I32, QuantizationMethod.CompressedTensors) => PackQuantized(tensor, stem, rows, columns),
            ("weight_packed", SafetensorsType.U8, QuantizationMethod.CompressedTensors) => Nvfp4(tensor, stem + "weight_global_scale", divides: true, stem, rows, columns),
            (Weight, SafetensorsType.U8, QuantizationMethod.ModelOpt or QuantizationMethod.None) => Nvfp4(tensor, stem + "weight_scale_2", divides: false, stem, rows, columns),
            ("qweight" or "weight_packed", _, _) => throw Bad(
                tensor.Name, $"{tensor.Type.Name()} codes, which do not belong to 'quantization_config' of config.json ({_scheme.Describe() ?? "none"}); one of the two is not of this model"),
            (_, SafetensorsType.F8E4M3, _) => Fp8(tensor, rows, columns),
            _ => throw Bad(tensor.Name, $"weights of type {tensor.Type.Name()} are not supported; use the BF16 or FP8 release, or a GGUF file"),
        };
    }

    private AwqTensor Awq(SafetensorsTensor codes, string stem, int rows, int columns)
    {
        Whole(codes, rows, columns);
        (ScaleTable scales, Int4Groups groups) = Transposed(stem, rows, columns);
        return new AwqTensor(Words(codes, columns, rows / 8), Words(Require(stem + "qzeros"), groups.Count, rows / 8), scales, groups, _path) { Name = codes.Name, RowCount = rows, ColumnCount = columns };
    }

    private GptqTensor Gptq(SafetensorsTensor codes, string stem, int rows, int columns)
    {
        Whole(codes, rows, columns);
        (ScaleTable scales, Int4Groups groups) = Transposed(stem, rows, columns);
        return new GptqTensor(Words(codes, columns / 8, rows), Words(Require(stem + "qzeros"), groups.Count, rows / 8), scales, groups, _scheme.ZerosLackOne, _path) { Name = codes.Name, RowCount = rows, ColumnCount = columns };
    }

    // Scales [groups, out], and which group a column is of.
    private (ScaleTable Scales, Int4Groups Groups) Transposed(string stem, int rows, int columns)
    {
        SafetensorsTensor scales = Require(stem + "scales");
        Int4Groups groups = Groups(scales, scales.Sizes.Length == 2 ? scales.Sizes[0] : 0, columns, symmetric: null, _set.Find(stem + "g_idx"));
        return (Scales(scales, groups.Count, rows), groups);
    }

    private PackQuantizedTensor PackQuantized(SafetensorsTensor codes, string stem, int rows, int columns)
    {
        SafetensorsTensor scales = Require(stem + "weight_scale");
        SafetensorsTensor? zeros = _set.Find(stem + "weight_zero_point");
        Int4Groups groups = Groups(scales, scales.Sizes.Length == 2 ? scales.Sizes[1] : 0, columns, symmetric: zeros is null, _set.Find(stem + "weight_g_idx"));
        if (_set.Find(stem + "weight_shape") is { } shape && !Integers(shape, 2).AsSpan().SequenceEqual([rows, columns]))
            throw Bad(shape.Name, $"expected [{rows}, {columns}] by config.json, found {FileText.Shape(Integers(shape, 2))}");
        return new PackQuantizedTensor(
            Words(codes, rows, (columns + 7) / 8), zeros is null ? null : Words(zeros, (rows + 7) / 8, groups.Count), Scales(scales, rows, groups.Count), groups, _path)
        { Name = codes.Name, RowCount = rows, ColumnCount = columns };
    }

    // The scheme of quantization_config that has as many groups as there are scales.
    private Int4Groups Groups(SafetensorsTensor scales, long count, int columns, bool? symmetric, SafetensorsTensor? order)
    {
        foreach (Int4Scheme scheme in _scheme.Int4)
        {
            int size = scheme.GroupSize == 0 ? columns : scheme.GroupSize;
            if ((symmetric is null || symmetric == scheme.IsSymmetric) && columns % size == 0 && columns / size == count)
                return new Int4Groups((int)count, size, scheme.IsSymmetric, order is null ? null : Order(order, columns, (int)count));
        }

        string wanted = symmetric is null ? "" : symmetric.Value ? " and no zero points" : " and zero points";
        throw Bad(scales.Name, $"{FileText.Shape(scales.Sizes)} scales{wanted} for {columns} columns do not belong to 'quantization_config' of config.json ({_scheme.Describe()})");
    }

    private int[] Order(SafetensorsTensor tensor, int columns, int groupCount)
    {
        long[] groups = Integers(tensor, columns);
        foreach (long group in groups)
        {
            if (group < 0 || group >= groupCount)
                throw Bad(tensor.Name, $"expected groups from 0 to {groupCount - 1}, found {group}; the file is damaged");
        }

        return Array.ConvertAll(groups, group => (int)group);
    }

    private Nvfp4Tensor Nvfp4(SafetensorsTensor codes, string factorName, bool divides, string stem, int rows, int columns)
    {
        if (_scheme.Method != QuantizationMethod.None && !_scheme.HasNvfp4)
            throw Bad(codes.Name, $"NVFP4 codes, which do not belong to 'quantization_config' of config.json ({_scheme.Describe()})");
        if (columns % Nvfp4Tensor.GroupColumns != 0)
            throw Bad(codes.Name, $"rows of {columns} columns are not whole NVFP4 groups of {Nvfp4Tensor.GroupColumns}");
        Expect(codes, SafetensorsType.U8, rows, columns / 2);
        SafetensorsTensor scales = Require(stem + "weight_scale");
        Expect(scales, SafetensorsType.F8E4M3, rows, columns / Nvfp4Tensor.GroupColumns);
        SafetensorsTensor stored = Require(factorName);
        if (stored.Type != SafetensorsType.F32 || stored.Data.Length != sizeof(float))
            throw Bad(stored.Name, $"expected one F32, found {stored.Type.Name()} {FileText.Shape(stored.Sizes)}");
        float factor = MemoryMarshal.Read<float>(stored.Data.Span(0, sizeof(float)));
        factor = divides ? 1 / factor : factor;
        if (!(factor > 0) || !float.IsFinite(factor))
            throw Bad(stored.Name, $"a factor of {factor:g4}; the file is damaged");
        return new Nvfp4Tensor(codes.Data, scales.Data, factor, _path) { Name = codes.Name, RowCount = rows, ColumnCount = columns };
    }

    // Blocks of rows and columns share a multiplier (NAME_scale_inv); compressed-tensors files have one per row, one in all, or such blocks (NAME_scale).
    private Fp8Tensor Fp8(SafetensorsTensor tensor, int rows, int columns)
    {
        SafetensorsTensor? scales = _set.Find(tensor.Name + "_scale_inv");
        Fp8Blocks blocks = _scheme.Fp8 ?? new Fp8Blocks(128, 128);
        if (scales is null)
        {
            scales = _set.Find(tensor.Name + "_scale") ?? throw Bad(tensor.Name + "_scale_inv", "is missing: the multipliers of FP8 weights", separator: " ");
            if (scales.Sizes.Length != 2 || scales.Sizes[1] == 1)
                blocks = new Fp8Blocks(scales.Data.Length == scales.Type.ByteSize() ? rows : 1, columns);
        }

        long scaleRows = (rows + blocks.Rows - 1) / blocks.Rows, scaleColumns = (columns + blocks.Columns - 1) / blocks.Columns;
        bool isVector = scaleColumns == 1 && scales.Sizes.Length < 2 && scales.Data.Length == scaleRows * scales.Type.ByteSize();
        bool isMatrix = scales.Sizes.Length == 2 && scales.Sizes[0] == scaleRows && scales.Sizes[1] == scaleColumns;
        if (!(isVector || isMatrix) || scales.Type.AsWeightType() is not { } type)
            throw Bad(scales.Name, $"expected float [{scaleRows}, {scaleColumns}] for blocks of {blocks.Rows} x {blocks.Columns}, found {scales.Type.Name()} {FileText.Shape(scales.Sizes)}");
        var values = new float[scaleRows * scaleColumns];
        WeightFormat.Decode(type, scales.Data.Span(0, checked((int)scales.Data.Length)), values);
        return new Fp8Tensor(tensor.Data, values, blocks) { Name = tensor.Name, RowCount = rows, ColumnCount = columns };
    }

    // Words of eight outputs or inputs: formats that store the matrix transposed have no odd ones.
    private void Whole(SafetensorsTensor codes, int rows, int columns)
    {
        if (rows % 8 != 0 || columns % 8 != 0)
            throw Bad(codes.Name, $"a matrix [{rows}, {columns}] by config.json does not come in words of eight codes");
    }

    private PackedWords Words(SafetensorsTensor tensor, int rows, int columns)
    {
        Expect(tensor, SafetensorsType.I32, rows, columns);
        return tensor.Data.Length <= int.MaxValue ? new PackedWords(tensor.Data, columns) : throw Bad(tensor.Name, $"{tensor.Data.Length} bytes of codes are more than 2 GiB");
    }

    private ScaleTable Scales(SafetensorsTensor tensor, int rows, int columns)
    {
        if (tensor.Type.AsWeightType() is not { } type)
            throw Bad(tensor.Name, $"expected scales of a float type, found {tensor.Type.Name()}");
        Expect(tensor, tensor.Type, rows, columns);
        return new ScaleTable(type, tensor.Data, columns);
    }

    private long[] Integers(SafetensorsTensor tensor, int count)
    {
        if (tensor.Type is not (SafetensorsType.I32 or SafetensorsType.I64) || tensor.Data.Length != (long)count * tensor.Type.ByteSize())
            throw Bad(tensor.Name, $"expected {count} integers, found {tensor.Type.Name()} {FileText.Shape(tensor.Sizes)}");
        ReadOnlySpan<byte> bytes = tensor.Data.Span(0, (int)tensor.Data.Length);
        return tensor.Type == SafetensorsType.I64 ? MemoryMarshal.Cast<byte, long>(bytes).ToArray() : Array.ConvertAll(MemoryMarshal.Cast<byte, int>(bytes).ToArray(), value => (long)value);
    }

    private void Expect(SafetensorsTensor tensor, SafetensorsType type, int rows, int columns)
    {
        if (tensor.Type != type || !tensor.Sizes.SequenceEqual([rows, columns]))
            throw Bad(tensor.Name, $"expected {type.Name()} [{rows}, {columns}] by config.json, found {tensor.Type.Name()} {FileText.Shape(tensor.Sizes)}");
    }

    private SafetensorsTensor Require(string name) => _set.Find(name) ?? throw Bad(name, "is missing", separator: " ");

    private BadModelFileException Bad(string name, string what, string separator = ": ") => new($"{_path}: tensor {FileText.Quote(name)}{separator}{what}.");

    private static (string Stem, string Part) PartOf(string name)
    {
        int start = name.LastIndexOf('.') + 1;
        return (name[..start], name[start..]);
    }
}
