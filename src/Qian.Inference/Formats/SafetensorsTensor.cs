using Qian.Kernels;

namespace Qian.Inference.Formats;

// Element types of safetensors that this project can meet.
internal enum SafetensorsType
{
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

internal static class SafetensorsTypes
{
    private static readonly string[] s_names = ["F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I32", "I16", "I8", "U8", "BOOL"];

    public static string Name(this SafetensorsType type) => s_names[(int)type];

    public static int ByteSize(this SafetensorsType type) => type switch
    {
        SafetensorsType.F64 or SafetensorsType.I64 => 8,
        SafetensorsType.F32 or SafetensorsType.I32 => 4,
        SafetensorsType.F16 or SafetensorsType.BF16 or SafetensorsType.I16 => 2,
        _ => 1,
    };

    public static bool TryParse(string? name, out SafetensorsType type)
    {
        int index = Array.IndexOf(s_names, name);
        type = (SafetensorsType)Math.Max(index, 0);
        return index >= 0;
    }

    // The same storage as a weight type, for those that have one.
    public static WeightType? AsWeightType(this SafetensorsType type) => type switch
    {
        SafetensorsType.F32 => WeightType.F32,
        SafetensorsType.F16 => WeightType.F16,
        SafetensorsType.BF16 => WeightType.BF16,
        _ => null,
    };
}

// One tensor of an open safetensors file: `Sizes` with the contiguous axis last, `Data` exactly their product times the element size.
internal sealed class SafetensorsTensor
{
    private readonly long[] _sizes;

    public SafetensorsTensor(string name, SafetensorsType type, long[] sizes, ByteView data, string filePath)
    {
        Name = name;
        Type = type;
        _sizes = sizes;
        Data = data;
        FilePath = filePath;
    }

    public string Name { get; }

    public SafetensorsType Type { get; }

    public ReadOnlySpan<long> Sizes => _sizes;

    public ByteView Data { get; }

    public string FilePath { get; }
}
