using System.Runtime.InteropServices;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

// The code of a group of 32 columns: 8 steps of products into two integer sums per panel and column (one for either half), then the float
// operations of the C# form. Products, multiplications and fused multiply-adds share two pipes of the CPU, so their count bounds the speed (8 and 3 in the
// common form); everything else is there to keep those two busy.
internal static unsafe partial class EmittedDot
{
    private const int HalfSteps = 4;

    // Integer sums, float sums, weights, one broadcast, three for the end of a group.
    private const int VectorsOfFourColumns = 2 * 8 + 8 + 2 + 1 + 3;

    // Writes one variant. Registers of the code: where the panels' quants, the scales, the activations and the accumulators are.
    private abstract class GroupEmitter
    {
        protected GroupEmitter(Form form, int width, int panelCount)
        {
            (Form, Width, PanelCount) = (form, width, panelCount);
            AssemblerRegisterZMM[] vectors = MachineCode.Vectors;
            ColumnCount = Math.Min(width, vectors.Length >= VectorsOfFourColumns ? 4 : 2);
            int sums = panelCount * ColumnCount;
            Integers = vectors[..(2 * sums)];
            Floats = vectors[(2 * sums)..(3 * sums)];
            Weights = vectors[(3 * sums)..(3 * sums + panelCount)];
            Broadcast = vectors[3 * sums + panelCount];
            (ScaleVector, OffsetVector, Product) = (vectors[3 * sums + panelCount + 1], vectors[3 * sums + panelCount + 2], vectors[3 * sums + panelCount + 3]);
            Spare = vectors[(3 * sums + panelCount + 4)..];
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

        protected AssemblerRegisterZMM Broadcast { get; }

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
            for (int half = 0; half < 2; half++)
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
                        Code.vpbroadcastd(Broadcast, Entry(ActivationTiles.FirstStep + at, column));
                        for (int panel = 0; panel < PanelCount; panel++)
                            Code.vpdpbusd(Integer(half, panel, column), Weights[panel], Broadcast);
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

        private AssemblerRegisterZMM Integer(int half, int panel, int column) => Integers[(half * PanelCount + panel) * ColumnCount + column];

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
