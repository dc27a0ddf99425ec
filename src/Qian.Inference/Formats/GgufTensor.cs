using Qian.Kernels;

namespace Qian.Inference.Formats;

// One entry of a GGUF tensor list. `Sizes` is the file's ne: the contiguous axis first, so a weight [out, in] has [in, out].
internal sealed class GgufTensor
{
    private readonly long[] _sizes;

    public GgufTensor(string name, long[] sizes, WeightType type, long byteCount)
    {
        Name = name;
        _sizes = sizes;
        Type = type;
        ByteCount = byteCount;
    }

    public string Name { get; }

    public ReadOnlySpan<long> Sizes => _sizes;

    public WeightType Type { get; }

    public long ByteCount { get; }

    public ByteView Data { get; internal set; }

    public string FilePath { get; internal set; } = "";

    public int ColumnCount => (int)_sizes[0];

    // All axes but the first as one; fits an int by the reader's checks.
    public int RowCount
    {
        get
        {
            long rows = 1;
            for (int i = 1; i < _sizes.Length; i++)
                rows *= _sizes[i];
            return (int)rows;
        }
    }
}

// Names of type ids that exist in GGUF but have no decoder here, so that the error can say more than a number.
internal static class GgufTypeNames
{
    public static string Hint(uint typeId) => typeId switch
    {
        4 or 5 => " (Q4_2 or Q4_3, withdrawn)",
        9 => " (Q8_1)",
        15 => " (Q8_K)",
        24 => " (I8)",
        25 => " (I16)",
        26 => " (I32)",
        27 => " (I64)",
        28 => " (F64)",
        31 or 32 or 33 => " (Q4_0 repacked for one CPU)",
        34 => " (TQ1_0)",
        35 => " (TQ2_0)",
        _ => "",
    };
}
