namespace Qian.Inference.Formats;

// GPTQ's layout, input features first: qweight int32 [in / 8, out], eight neighbouring inputs a word from the low nibble up; qzeros
// int32 [groups, out / 8] likewise along outputs; scales [groups, out]. The first version of the format (checkpoint_format "gptq")
// stores every zero point less one, subtracted word by word; "gptq_v2" stores them as they are.
internal sealed class GptqTensor : Int4Tensor
{
    private const uint OnePerNibble = 0x11111111;

    private readonly PackedWords _codes;
    private readonly PackedWords _zeros;
    private readonly ScaleTable _scales;
    private readonly uint _lackingZero;

    public GptqTensor(PackedWords codes, PackedWords zeros, ScaleTable scales, Int4Groups groups, bool zerosLackOne, string path)
        : base("GPTQ int4", groups, path)
    {
        (_codes, _zeros, _scales) = (codes, zeros, scales);
        _lackingZero = zerosLackOne ? OnePerNibble : 0;
    }

    protected override void ReadRow(int row, Span<byte> codes, Span<float> scales, Span<byte> zeros)
    {
        for (int c = 0; c < codes.Length; c += 8)
        {
            uint word = _codes.At(c / 8, row);
            for (int i = 0; i < 8; i++, word >>= 4)
                codes[c + i] = (byte)(word & 15);
        }

        for (int g = 0; g < zeros.Length; g++)
            zeros[g] = (byte)(unchecked(_zeros.At(g, row / 8) + _lackingZero) >> 4 * (row % 8) & 15);
        _scales.ReadColumn(row, scales);
    }
}
