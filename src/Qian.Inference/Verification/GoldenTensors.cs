using System.Runtime.InteropServices;
using Qian.Inference.Formats;

namespace Qian.Inference.Verification;

// A safetensors file of reference numbers, read as floats or ids.
internal sealed class GoldenTensors : IDisposable
{
    private readonly SafetensorsFile _file;

    private GoldenTensors(SafetensorsFile file) => _file = file;

    public IEnumerable<string> Names => _file.Tensors.Select(tensor => tensor.Name);

    public static GoldenTensors Open(string path) => new(SafetensorsFile.Open(path));

    public bool Has(string name) => _file.Find(name) is not null;

    public long[] Shape(string name) => _file.Require(name).Sizes.ToArray();

    public ReadOnlySpan<byte> Bytes(string name)
    {
        SafetensorsTensor tensor = _file.Require(name);
        return tensor.Data.Span(0, checked((int)tensor.Data.Length));
    }

    // F32 as it is, F64 rounded.
    public float[] Floats(string name)
    {
        switch (_file.Require(name).Type)
        {
            case SafetensorsType.F32:
                return MemoryMarshal.Cast<byte, float>(Bytes(name)).ToArray();
            case SafetensorsType.F64:
                ReadOnlySpan<double> wide = MemoryMarshal.Cast<byte, double>(Bytes(name));
                var values = new float[wide.Length];
                for (int i = 0; i < values.Length; i++)
                    values[i] = (float)wide[i];
                return values;
            default:
                throw Wrong(name, "F32 or F64");
        }
    }

    // Token ids and positions.
    public int[] Ids(string name)
    {
        if (_file.Require(name).Type != SafetensorsType.I64)
            throw Wrong(name, "I64");
        ReadOnlySpan<long> wide = MemoryMarshal.Cast<byte, long>(Bytes(name));
        var ids = new int[wide.Length];
        for (int i = 0; i < ids.Length; i++)
        {
            ids[i] = wide[i] is >= int.MinValue and <= int.MaxValue
                ? (int)wide[i]
                : throw new BadModelFileException($"{_file.Path}: {name}[{i}] is {wide[i]}, which is no token id or position");
        }

        return ids;
    }

    public void Dispose() => _file.Dispose();

    private BadModelFileException Wrong(string name, string expected) =>
        new($"{_file.Path}: {name}: expected {expected}, found {_file.Require(name).Type}");
}
