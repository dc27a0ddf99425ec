using System.Runtime.InteropServices;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

// The code of a group of 32 columns: 8 steps of products into two integer sums per panel and column (one for either half; where 8 columns make chains enough,
// one for both), then the float operations of the C# form. Products, multiplications and fused multiply-adds share two pipes of the CPU, so their count bounds the speed (8 and 3 in the
// common form); everything else is there to keep those two busy.
internal static unsafe partial class EmittedDot
{
    private const int HalfSteps = 4;
    private const int ManyColumns = 8;

    // Writes one variant. Registers of the code: where the panels' quants, the scales, the activations and the accumulators are.
    private abstract class GroupEmitter
    {
        private readonly int _integerSets;

        protected GroupEmitter(Form form, int width, int columnCount, int panelCount)
        {
            (Form, Width, ColumnCount, PanelCount) = (form, width, columnCount, panelCount);
            _integerSets = form == Form.Whole && columnCount == ManyColumns ? 1 : 2;
            var vectors = new Queue<AssemblerRegisterZMM>(MachineCode.Vectors);
            int sums = panelCount * columnCount;
            Integers = Take(_integerSets * sums);
            Floats = Take(sums);
            Weights = Take(panelCount);
            (ScaleVector, OffsetVector, Product) = (vectors.Dequeue(), vectors.Dequeue(), vectors.Dequeue());
            Spare = [.. vectors];

            AssemblerRegisterZMM[] Take(int count) => [.. Enumerable.Range(0, count).Select(_ => vectors.Dequeue())];
        }

        protected Assembler Code { get; } = MachineCode.NewAssembler();

        protected AssemblerRegister64 Argument { get; } = MachineCode.Argument;

        protected AssemblerRegister64[] Quants { get; } = [rax, rdx];

        protected AssemblerRegister64 X { get; } = r8;

        protected AssemblerRegister64 Acc { get; } = r9;

        protected AssemblerRegister64 Groups { get; } = r10;

        protected AssemblerRegister64 Scales { get; } = r11;

        protected Form Form { get; }

        // Columns of a tile, and how many of them the registers take at once.
        protected int Width { get; }

        protected int ColumnCount { get; }

        protected int PanelCount { get; }

        protected AssemblerRegisterZMM[] Integers { get; }

        protected AssemblerRegisterZMM[] Floats { get; }

        protected AssemblerRegisterZMM[] Weights { get; }

        protected AssemblerRegisterZMM[] Spare { get; }

        protected AssemblerRegisterZMM ScaleVector { get; }

        protected AssemblerRegisterZMM OffsetVector { get; }

        protected AssemblerRegisterZMM Product { get; }

        // The first column of those in registers.
        protected int FirstColumn { get; set; }

        public abstract void* Emit();

        // A step of weights as bytes, into Weights[panel].
        protected abstract void LoadWeights(int panel, int half, int step);

        // The float scale and offset of a group, or of half of it, into their registers; RunScaled: the integer scales of both halves.
        protected abstract void LoadScales(int panel, int half);

        // The float scale of a block, RunScaled only.
        protected abstract AssemblerRegisterZMM LoadBlockScale(int panel);

        protected void ReadSums()
        {
            for (int panel = 0; panel < PanelCount; panel++)
            {
                for (int column = 0; column < ColumnCount; column++)
                {
                    AssemblerRegisterZMM sum = Float(panel, column);
                    if (Form == Form.RunScaled)
                        Code.vpxord(sum, sum, sum);
                    else
                        Code.vmovups(sum, Accumulator(panel, column));
                }
            }
        }

        protected void WriteSums()
        {
            for (int panel = 0; panel < PanelCount; panel++)
            {
                AssemblerRegisterZMM? scale = Form == Form.RunScaled ? LoadBlockScale(panel) : null;
                for (int column = 0; column < ColumnCount; column++)
                {
                    if (scale is { } factor)
                        Code.vfmadd213ps(Float(panel, column), factor, Accumulator(panel, column));
                    Code.vmovups(Accumulator(panel, column), Float(panel, column));
                }
            }
        }

        // The integer sums start at zero, or at what takes weights stored too high back.
        protected void StartGroup()
        {
            for (int half = 0; half < _integerSets; half++)
            {
                for (int column = 0; column < ColumnCount; column++)
                {
                    AssemblerRegisterZMM first = Integer(half, 0, column);
                    if (Form == Form.RunScaled)
                        Code.vpbroadcastd(first, Entry(ActivationTiles.FirstBias + half, column));
                    else
                        Code.vpxord(first, first, first);
                    for (int panel = 1; panel < PanelCount; panel++)
                        Code.vmovdqa32(Integer(half, panel, column), first);
                }
            }
        }

        // The products of a group. Steps of either half alternate.
        protected void Multiply()
        {
            for (int step = 0; step < HalfSteps; step++)
            {
                for (int half = 0; half < 2; half++)
                {
                    int at = half * HalfSteps + step;
                    for (int panel = 0; panel < PanelCount; panel++)
                        LoadWeights(panel, half, step);
                    for (int column = 0; column < ColumnCount; column++)
                    {
                        if (PanelCount == 1)
                        {
                            Code.vpdpbusd(Integer(half, 0, column), Weights[0], Spread(ActivationTiles.FirstStep + at, column));
                            continue;
                        }

                        Code.vpbroadcastd(Product, Entry(ActivationTiles.FirstStep + at, column));
                        for (int panel = 0; panel < PanelCount; panel++)
                            Code.vpdpbusd(Integer(half, panel, column), Weights[panel], Product);
                    }
                }
            }
        }

        // The float end of a group of one panel.
        protected void AddGroup(int panel)
        {
            switch (Form)
            {
                case Form.Whole:
                    LoadScales(panel, 0);
                    for (int column = 0; column < ColumnCount; column++)
                    {
                        AssemblerRegisterZMM sum = Integer(0, panel, column);
                        if (_integerSets > 1)
                            Code.vpaddd(sum, sum, Integer(1, panel, column));
                        Code.vcvtdq2ps(sum, sum);
                        Code.vmulps(Product, ScaleVector, Spread(ActivationTiles.Scale, column));
                        Code.vfmadd231ps(Float(panel, column), sum, Product);
                        Code.vfmadd231ps(Float(panel, column), OffsetVector, Spread(ActivationTiles.Sum, column));
                    }

                    break;
                case Form.RunScaled:
                    LoadScales(panel, 0);
                    for (int column = 0; column < ColumnCount; column++)
                    {
                        AssemblerRegisterZMM first = Integer(0, panel, column), second = Integer(1, panel, column);
                        Code.vcvtdq2ps(first, first);
                        Code.vcvtdq2ps(second, second);
                        Code.vmulps(first, first, ScaleVector);
                        Code.vfmadd231ps(first, second, OffsetVector);
                        Code.vfmadd231ps(Float(panel, column), first, Spread(ActivationTiles.Scale, column));
                    }

                    break;
                default:
                    for (int half = 0; half < 2; half++)
                    {
                        LoadScales(panel, half);
                        for (int column = 0; column < ColumnCount; column++)
                        {
                            AssemblerRegisterZMM sum = Integer(half, panel, column);
                            Code.vcvtdq2ps(sum, sum);
                            Code.vmulps(Product, ScaleVector, Spread(ActivationTiles.Scale, column));
                            Code.vfmadd231ps(Float(panel, column), sum, Product);
                            Code.vfmadd231ps(Float(panel, column), OffsetVector, Spread(ActivationTiles.FirstSum + half, column));
                        }
                    }

                    break;
            }
        }

        protected AssemblerMemoryOperand Field(string name) => __qword_ptr[Argument + (int)Marshal.OffsetOf<Arguments>(name)];

        private AssemblerRegisterZMM Integer(int half, int panel, int column) => Integers[(half % _integerSets * PanelCount + panel) * ColumnCount + column];

        private AssemblerRegisterZMM Float(int panel, int column) => Floats[panel * ColumnCount + column];

        private AssemblerMemoryOperand Accumulator(int panel, int column) => __zmmword_ptr[Acc + (panel * PanelStrideBytes + (FirstColumn + column) * VectorBytes)];

        private AssemblerMemoryOperand Entry(int entry, int column) => __dword_ptr[X + (entry * Width + FirstColumn + column) * sizeof(float)];

        private AssemblerMemoryOperand Spread(int entry, int column) => __dword_bcst[X + (entry * Width + FirstColumn + column) * sizeof(float)];
    }

    // The code counts down and moves pointers here. Scales: those of an unpacked block, or the head of a packed panel. Second: the other panel's quants.
    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public byte* Quants, Second, Scales;
        public float* X, Accumulators;
        public long GroupCount, BlockGroupCount, TileCount, TileGapBytes, PassCount, HeadBytes, PanelBytes;
    }
}
