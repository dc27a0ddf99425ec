using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

internal static unsafe partial class EmittedDot
{
    // Walks all tiles of one width against a block of one or two panels that is unpacked to bytes.
    private sealed class TileEmitter(Form form, int width, int panelCount) : GroupEmitter(form, width, ColumnsAtOnce(width), panelCount)
    {
        // Integer sums, float sums and weights of two panels, and three for the end of a group.
        private const int VectorsOfFourColumns = 2 * 8 + 8 + 2 + 3;

        private static int ColumnsAtOnce(int width) => Math.Min(width, MachineCode.Vectors.Length >= VectorsOfFourColumns ? 4 : 2);

        public override void* Emit()
        {
            Label tile = Code.CreateLabel(), pass = Code.CreateLabel(), group = Code.CreateLabel();
            Code.Label(ref tile);
            Code.mov(Field(nameof(Arguments.PassCount)), Width / ColumnCount);
            Code.Label(ref pass);
            Code.mov(Quants[0], Field(nameof(Arguments.Quants)));
            Code.mov(Quants[1], Field(nameof(Arguments.Second)));
            Code.mov(Scales, Field(nameof(Arguments.Scales)));
            Code.mov(X, Field(nameof(Arguments.X)));
            Code.mov(Acc, Field(nameof(Arguments.Accumulators)));
            Code.mov(Groups, Field(nameof(Arguments.GroupCount)));
            ReadSums();

            Code.Label(ref group);
            StartGroup();
            Multiply();
            for (int panel = 0; panel < PanelCount; panel++)
                AddGroup(panel);
            for (int panel = 0; panel < PanelCount; panel++)
                Code.add(Quants[panel], 2 * HalfSteps * VectorBytes);
            Code.add(Scales, Form == Form.Whole ? VectorBytes : 2 * VectorBytes);
            Code.add(X, ActivationTiles.GroupDwords * Width * sizeof(float));
            Code.dec(Groups);
            Code.jne(group);

            WriteSums();
            Code.add(Field(nameof(Arguments.X)), ColumnCount * sizeof(float));
            Code.add(Field(nameof(Arguments.Accumulators)), ColumnCount * VectorBytes);
            Code.dec(Field(nameof(Arguments.PassCount)));
            Code.jne(pass);
            Code.mov(X, Field(nameof(Arguments.TileGapBytes)));
            Code.add(Field(nameof(Arguments.X)), X);
            Code.dec(Field(nameof(Arguments.TileCount)));
            Code.jne(tile);
            Code.vzeroupper();
            Code.ret();
            return MachineCode.Publish(Code);
        }

        protected override void LoadWeights(int panel, int half, int step) =>
            Code.vmovdqu32(Weights[panel], __zmmword_ptr[Quants[panel] + (half * HalfSteps + step) * VectorBytes]);

        protected override void LoadScales(int panel, int half)
        {
            bool areIntegers = Form == Form.RunScaled;
            Code.vmovups(ScaleVector, areIntegers ? Offset(panel, 0) : Scale(panel, half));
            Code.vmovups(OffsetVector, areIntegers ? Offset(panel, 1) : Offset(panel, half));
        }

        protected override AssemblerRegisterZMM LoadBlockScale(int panel)
        {
            if (panel == 0)
                Code.mov(Scales, Field(nameof(Arguments.Scales)));
            Code.vmovups(ScaleVector, Scale(panel, 0));
            return ScaleVector;
        }

        private AssemblerMemoryOperand Scale(int panel, int half) => __zmmword_ptr[Scales + (panel * UnpackedBlock.Bytes + half * VectorBytes)];

        private AssemblerMemoryOperand Offset(int panel, int half) => __zmmword_ptr[Scales + (panel * UnpackedBlock.Bytes + UnpackedBlock.FloatBytes + half * VectorBytes)];
    }
}
