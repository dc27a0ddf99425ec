using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

/// <summary>
/// The products of <see cref="IntegerDotAvx512"/> as machine code around vpdpbusd, which .NET does not offer 512 bits wide: four byte products and their sum
/// in one instruction, two of them per cycle. One or two panels x up to 4 columns in registers; either half of a group has its own integer sums, so that
/// enough chains run side by side. The integer sums are exact and the float operations those of the C# form in its order, so both give the same
/// bits and either may stand in for the other. One call walks all tiles of one width against a block.
/// </summary>
internal static unsafe class EmittedDot
{
    // Bytes between the accumulators of the first and of the second panel.
    public const int PanelStrideBytes = Linear.MaxTileColumns * PanelLayout.PanelRows * sizeof(float);

    private const int VectorBytes = PanelLayout.StepBytes;
    private const int HalfSteps = 4;
    private const int WidthCount = 4, PanelChoices = 2;

    // Integer sums, float sums, weights, one broadcast, three for the end of a group.
    private const int VectorsOfFourColumns = 2 * 8 + 8 + 2 + 1 + 3;

    private static readonly nint[] s_codes = new nint[Enum.GetValues<Form>().Length * WidthCount * PanelChoices];
    private static readonly Lock s_emitting = new();

    private enum Form
    {
        // One scale and one offset per group.
        Whole,

        // Integer scales per half group, one float scale per block; the sums of activations enter as integers.
        RunScaled,

        // A scale and an offset per half group.
        Halves,
    }

    /// <summary>The CPU has the instruction and the system let the code be made.</summary>
    public static bool IsAvailable { get; } = IsSupported && Code(Form.Whole, 1, 1) != 0;

    /// <summary>Whether the CPU multiplies bytes in 512-bit registers, and the system saves them.</summary>
    internal static bool IsSupported
    {
        get
        {
            const int features = 7, dotBit = 1 << 11;
            return IsaTier.IsSupported(Isa.Avx512) && X86Base.IsSupported && X86Base.X64.IsSupported
                && X86Base.CpuId(0, 0).Eax >= features && (X86Base.CpuId(features, 0).Ecx & dotBit) != 0;
        }
    }

    // Makes the code that tiles like these need, which allocates, before the threads want it. False where the system refuses it.
    public static bool Prepare(DotKind kind, in ActivationTiles tiles)
    {
        Form form = FormOf(kind);
        int first = tiles.WidthOf(0), last = tiles.WidthOf(tiles.TileCount - 1);
        return Code(form, first, 1) != 0 && Code(form, first, 2) != 0 && Code(form, last, 1) != 0 && Code(form, last, 2) != 0;
    }

    // One block of panelCount panels against the tiles from first to end; what Prepare made must cover them. quants[1] counts only with two panels.
    public static void Tiles(
        DotKind kind, in UnpackedBlock block, byte* firstQuants, byte* secondQuants, int panelCount, in ActivationTiles tiles, int first, int end, int group, int groupCount, float* acc)
    {
        int fullCount = end - first;
        if (tiles.WidthOf(end - 1) != tiles.Width)
            fullCount--;
        if (fullCount > 0)
            Run(kind, block, firstQuants, secondQuants, panelCount, tiles, first, fullCount, group, groupCount, acc);
        if (fullCount < end - first)
            Run(kind, block, firstQuants, secondQuants, panelCount, tiles, end - 1, 1, group, groupCount, acc + (long)fullCount * tiles.Width * PanelLayout.PanelRows);
    }

    private static void Run(
        DotKind kind, in UnpackedBlock block, byte* firstQuants, byte* secondQuants, int panelCount, in ActivationTiles tiles, int tile, int tileCount, int group, int groupCount, float* acc)
    {
        int width = tiles.WidthOf(tile);
        var arguments = new Arguments
        {
            FirstQuants = firstQuants,
            SecondQuants = secondQuants,
            Scales = block.Scales,
            X = tiles.Group(tile, group),
            Accumulators = acc,
            GroupCount = groupCount,
            TileCount = tileCount,
            TileGapBytes = tiles.TileBytes(group) - width * sizeof(float),
        };
        ((delegate* unmanaged<Arguments*, void>)s_codes[Index(FormOf(kind), width, panelCount)])(&arguments);
    }

    private static Form FormOf(DotKind kind) => kind switch
    {
        DotKind.U6 => Form.RunScaled,
        DotKind.U8By16 => Form.Halves,
        _ => Form.Whole,
    };

    private static int Index(Form form, int width, int panelCount) => ((int)form * WidthCount + int.Log2(width)) * PanelChoices + panelCount - 1;

    private static nint Code(Form form, int width, int panelCount)
    {
        ref nint code = ref s_codes[Index(form, width, panelCount)];
        if (Volatile.Read(ref code) != 0)
            return code;
        lock (s_emitting)
        {
            if (code == 0)
                Volatile.Write(ref code, (nint)new Emitter(form, width, panelCount).Emit());
            return code;
        }
    }

    // Writes one variant. Registers of the code: where the panels' quants, the scales, the activations and the accumulators are.
    private sealed class Emitter
    {
        private readonly Assembler _code = MachineCode.NewAssembler();
        private readonly AssemblerRegister64 _argument = MachineCode.Argument, _scales = r11, _x = r8, _acc = r9, _groups = r10;
        private readonly AssemblerRegister64[] _quants = [rax, rdx];
        private readonly Form _form;
        private readonly int _width, _panelCount, _columnCount;
        private readonly AssemblerRegisterZMM[] _integers, _floats, _weights, _spare;
        private readonly AssemblerRegisterZMM _broadcast;

        public Emitter(Form form, int width, int panelCount)
        {
            (_form, _width, _panelCount) = (form, width, panelCount);
            AssemblerRegisterZMM[] vectors = MachineCode.Vectors;
            _columnCount = Math.Min(width, vectors.Length >= VectorsOfFourColumns ? 4 : 2);
            int sums = panelCount * _columnCount;
            _integers = vectors[..(2 * sums)];
            _floats = vectors[(2 * sums)..(3 * sums)];
            _weights = vectors[(3 * sums)..(3 * sums + panelCount)];
            _broadcast = vectors[3 * sums + panelCount];
            _spare = vectors[(3 * sums + panelCount + 1)..];
        }

        public void* Emit()
        {
            Label pass = _code.CreateLabel(), group = _code.CreateLabel();
            Label tile = _code.CreateLabel();
            _code.Label(ref tile);
            _code.mov(Field(nameof(Arguments.PassCount)), _width / _columnCount);
            _code.Label(ref pass);
            _code.mov(_quants[0], Field(nameof(Arguments.FirstQuants)));
            _code.mov(_quants[1], Field(nameof(Arguments.SecondQuants)));
            _code.mov(_scales, Field(nameof(Arguments.Scales)));
            _code.mov(_x, Field(nameof(Arguments.X)));
            _code.mov(_acc, Field(nameof(Arguments.Accumulators)));
            _code.mov(_groups, Field(nameof(Arguments.GroupCount)));
            Start();

            _code.Label(ref group);
            Products();
            for (int panel = 0; panel < _panelCount; panel++)
                AddGroup(panel);
            _code.add(_quants[0], 2 * HalfSteps * VectorBytes);
            _code.add(_quants[1], 2 * HalfSteps * VectorBytes);
            _code.add(_scales, _form == Form.Whole ? VectorBytes : 2 * VectorBytes);
            _code.add(_x, ActivationTiles.GroupDwords * _width * sizeof(float));
            _code.dec(_groups);
            _code.jne(group);

            Finish();
            _code.add(Field(nameof(Arguments.X)), _columnCount * sizeof(float));
            _code.add(Field(nameof(Arguments.Accumulators)), _columnCount * VectorBytes);
            _code.dec(Field(nameof(Arguments.PassCount)));
            _code.jne(pass);
            _code.mov(_x, Field(nameof(Arguments.TileGapBytes)));
            _code.add(Field(nameof(Arguments.X)), _x);
            _code.dec(Field(nameof(Arguments.TileCount)));
            _code.jne(tile);
            _code.vzeroupper();
            _code.ret();
            return MachineCode.Publish(_code);
        }

        private void Start()
        {
            for (int panel = 0; panel < _panelCount; panel++)
            {
                for (int column = 0; column < _columnCount; column++)
                {
                    AssemblerRegisterZMM sum = Float(panel, column);
                    if (_form == Form.RunScaled)
                        _code.vpxord(sum, sum, sum);
                    else
                        _code.vmovups(sum, Accumulator(panel, column));
                }
            }
        }

        // The integer sums of a group. Steps of either half alternate.
        private void Products()
        {
            for (int half = 0; half < 2; half++)
            {
                for (int column = 0; column < _columnCount; column++)
                {
                    AssemblerRegisterZMM first = Integer(half, 0, column);
                    if (_form == Form.RunScaled)
                        _code.vpbroadcastd(first, Entry(ActivationTiles.FirstBias + half, column));
                    else
                        _code.vpxord(first, first, first);
                    for (int panel = 1; panel < _panelCount; panel++)
                        _code.vmovdqa32(Integer(half, panel, column), first);
                }
            }

            for (int step = 0; step < HalfSteps; step++)
            {
                for (int half = 0; half < 2; half++)
                {
                    int at = half * HalfSteps + step;
                    for (int panel = 0; panel < _panelCount; panel++)
                        _code.vmovdqu32(_weights[panel], __zmmword_ptr[_quants[panel] + at * VectorBytes]);
                    for (int column = 0; column < _columnCount; column++)
                    {
                        _code.vpbroadcastd(_broadcast, Entry(ActivationTiles.FirstStep + at, column));
                        for (int panel = 0; panel < _panelCount; panel++)
                            _code.vpdpbusd(Integer(half, panel, column), _weights[panel], _broadcast);
                    }
                }
            }
        }

        // The float end of a group of one panel.
        private void AddGroup(int panel)
        {
            AssemblerRegisterZMM scale = _spare[0], offset = _spare[1], product = _spare[2];
            switch (_form)
            {
                case Form.Whole:
                    _code.vmovups(scale, Scale(panel, 0));
                    _code.vmovups(offset, Offset(panel, 0));
                    for (int column = 0; column < _columnCount; column++)
                    {
                        AssemblerRegisterZMM sum = Integer(0, panel, column);
                        _code.vpaddd(sum, sum, Integer(1, panel, column));
                        _code.vcvtdq2ps(sum, sum);
                        _code.vmulps(product, scale, Spread(ActivationTiles.Scale, column));
                        _code.vfmadd231ps(Float(panel, column), sum, product);
                        _code.vfmadd231ps(Float(panel, column), offset, Spread(ActivationTiles.Sum, column));
                    }

                    break;
                case Form.RunScaled:
                    _code.vmovups(scale, Offset(panel, 0));
                    _code.vmovups(offset, Offset(panel, 1));
                    for (int column = 0; column < _columnCount; column++)
                    {
                        AssemblerRegisterZMM first = Integer(0, panel, column), second = Integer(1, panel, column);
                        _code.vcvtdq2ps(first, first);
                        _code.vcvtdq2ps(second, second);
                        _code.vmulps(first, first, scale);
                        _code.vfmadd231ps(first, second, offset);
                        _code.vfmadd231ps(Float(panel, column), first, Spread(ActivationTiles.Scale, column));
                    }

                    break;
                default:
                    for (int half = 0; half < 2; half++)
                    {
                        _code.vmovups(scale, Scale(panel, half));
                        _code.vmovups(offset, Offset(panel, half));
                        for (int column = 0; column < _columnCount; column++)
                        {
                            AssemblerRegisterZMM sum = Integer(half, panel, column);
                            _code.vcvtdq2ps(sum, sum);
                            _code.vmulps(product, scale, Spread(ActivationTiles.Scale, column));
                            _code.vfmadd231ps(Float(panel, column), sum, product);
                            _code.vfmadd231ps(Float(panel, column), offset, Spread(ActivationTiles.FirstSum + half, column));
                        }
                    }

                    break;
            }
        }

        private void Finish()
        {
            if (_form == Form.RunScaled)
                _code.mov(_scales, Field(nameof(Arguments.Scales)));
            for (int panel = 0; panel < _panelCount; panel++)
            {
                if (_form == Form.RunScaled)
                    _code.vmovups(_spare[0], Scale(panel, 0));
                for (int column = 0; column < _columnCount; column++)
                {
                    if (_form == Form.RunScaled)
                        _code.vfmadd213ps(Float(panel, column), _spare[0], Accumulator(panel, column));
                    _code.vmovups(Accumulator(panel, column), Float(panel, column));
                }
            }
        }

        private AssemblerRegisterZMM Integer(int half, int panel, int column) => _integers[(half * _panelCount + panel) * _columnCount + column];

        private AssemblerRegisterZMM Float(int panel, int column) => _floats[panel * _columnCount + column];

        private AssemblerMemoryOperand Scale(int panel, int half) => __zmmword_ptr[_scales + (panel * UnpackedBlock.Bytes + half * VectorBytes)];

        private AssemblerMemoryOperand Offset(int panel, int half) => __zmmword_ptr[_scales + (panel * UnpackedBlock.Bytes + UnpackedBlock.FloatBytes + half * VectorBytes)];

        private AssemblerMemoryOperand Accumulator(int panel, int column) => __zmmword_ptr[_acc + (panel * PanelStrideBytes + column * VectorBytes)];

        private AssemblerMemoryOperand Entry(int entry, int column) => __dword_ptr[_x + (entry * _width + column) * sizeof(float)];

        private AssemblerMemoryOperand Spread(int entry, int column) => __dword_bcst[_x + (entry * _width + column) * sizeof(float)];

        private AssemblerMemoryOperand Field(string name) => __qword_ptr[_argument + (int)Marshal.OffsetOf<Arguments>(name)];
    }

    // The code moves X and the accumulators and counts the tiles and passes down.
    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public byte* FirstQuants, SecondQuants;
        public float* Scales, X, Accumulators;
        public long GroupCount, TileCount, TileGapBytes, PassCount;
    }
}
