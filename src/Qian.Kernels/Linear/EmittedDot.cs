using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

/// <summary>
/// The products of <see cref="IntegerDotAvx512"/> as machine code around vpdpbusd, which .NET does not offer 512 bits wide: four byte products and their sum
/// in one instruction, two of them per cycle. One or two panels x up to 4 columns in registers; either half of a group has its own integer sums, so that
/// enough chains run side by side. The integer sums are exact and the float operations those of the C# form in its order, so both give the same
/// bits and either may stand in for the other. One call walks all tiles of one width against a block. For few columns there is a second kind of variant
/// that takes the weights apart in registers, straight from the packed layout.
/// </summary>
internal static unsafe class EmittedDot
{
    // Bytes between the accumulators of the first and of the second panel.
    public const int PanelStrideBytes = Linear.MaxTileColumns * PanelLayout.PanelRows * sizeof(float);

    private const int VectorBytes = PanelLayout.StepBytes;
    private const int HalfSteps = 4;
    private const int FormCount = (int)Form.Halves + 1, SourceCount = (int)Source.PairsAndBits + 1, WidthCount = 4, PanelChoices = 2;

    // Integer sums, float sums, weights, one broadcast, three for the end of a group.
    private const int VectorsOfFourColumns = 2 * 8 + 8 + 2 + 1 + 3;

    private static readonly nint[] s_codes = new nint[FormCount * SourceCount * WidthCount * PanelChoices];
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

    // What the code reads: bytes in the first cache, or groups of the packed layout from wherever they are.
    private enum Source
    {
        Bytes,
        PackedBytes,

        // 4-bit parts of steps s and s + 4 share a byte.
        Nibbles,
        NibblesAndBits,
        NibblesAndPairs,

        // Nibbles are indices of a table.
        Levels,

        // No nibbles: four steps of bit pairs to a plane, and a plane of third bits.
        Pairs,
        PairsAndBits,
    }

    /// <summary>The CPU has the instruction and the system let the code be made.</summary>
    public static bool IsAvailable { get; } = IsSupported && Code(Form.Whole, Source.Bytes, 1, 1) != 0;

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
    public static bool Prepare(in WeightRows weight, in ActivationTiles tiles)
    {
        Form form = FormOf(weight.DotKind);
        int first = tiles.WidthOf(0), last = tiles.WidthOf(tiles.TileCount - 1);
        if (TakesPacked(weight, tiles))
            return Code(form, SourceOf(weight.Type), first, 1) != 0;
        return Code(form, Source.Bytes, first, 1) != 0 && Code(form, Source.Bytes, first, 2) != 0
            && Code(form, Source.Bytes, last, 1) != 0 && Code(form, Source.Bytes, last, 2) != 0;
    }

    // A single tile meets every weight once: unpacking to memory would only cost.
    public static bool TakesPacked(in WeightRows weight, in ActivationTiles tiles) => tiles.TileCount == 1 && weight.IsPacked;

    // One packed block of one panel against the only tile.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Packed(in WeightRows weight, in UnpackedBlock head, byte* quants, in ActivationTiles tiles, int group, int groupCount, float* acc)
    {
        Source source = SourceOf(weight.Type);
        byte* table = stackalloc byte[VectorBytes];
        if (source == Source.Levels)
            PanelUnpackAvx512.Levels(weight.Type).Store(table);
        Run(Code(FormOf(weight.DotKind), source, tiles.WidthOf(0), 1), head, quants, table, tiles, 0, 1, group, groupCount, acc);
    }

    // One block of one or two panels, as bytes, against the tiles from first to end.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Tiles(
        in WeightRows weight, in UnpackedBlock block, byte* firstQuants, byte* secondQuants, int panelCount, in ActivationTiles tiles, int first, int end, int group, int groupCount, float* acc)
    {
        Form form = FormOf(weight.DotKind);
        int fullCount = end - first;
        int lastWidth = tiles.WidthOf(end - 1);
        if (lastWidth != tiles.Width)
            fullCount--;
        if (fullCount > 0)
            Run(Code(form, Source.Bytes, tiles.Width, panelCount), block, firstQuants, secondQuants, tiles, first, fullCount, group, groupCount, acc);
        if (fullCount < end - first)
            Run(Code(form, Source.Bytes, lastWidth, panelCount), block, firstQuants, secondQuants, tiles, end - 1, 1, group, groupCount, acc + (long)fullCount * tiles.Width * PanelLayout.PanelRows);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Run(
        nint code, in UnpackedBlock block, byte* firstQuants, byte* second, in ActivationTiles tiles, int tile, int tileCount, int group, int groupCount, float* acc)
    {
        var arguments = new Arguments
        {
            FirstQuants = firstQuants,
            Second = second,
            Scales = block.Scales,
            X = tiles.Group(tile, group),
            Accumulators = acc,
            GroupCount = groupCount,
            TileCount = tileCount,
            TileGapBytes = tiles.TileBytes(group) - tiles.WidthOf(tile) * sizeof(float),
        };
        ((delegate* unmanaged<Arguments*, void>)code)(&arguments);
    }

    private static Form FormOf(DotKind kind) => kind switch
    {
        DotKind.U6 => Form.RunScaled,
        DotKind.U2By16 or DotKind.U8By16 => Form.Halves,
        _ => Form.Whole,
    };

    private static Source SourceOf(WeightType type) => type switch
    {
        WeightType.Q4_K or WeightType.Q4_0 => Source.Nibbles,
        WeightType.Q5_K => Source.NibblesAndBits,
        WeightType.Q6_K => Source.NibblesAndPairs,
        WeightType.Q2_K => Source.Pairs,
        WeightType.Q3_K => Source.PairsAndBits,
        WeightType.Q8_0 => Source.PackedBytes,
        _ => Source.Levels,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static nint Code(Form form, Source source, int width, int panelCount)
    {
        int index = (((int)form * SourceCount + (int)source) * WidthCount + int.Log2(width)) * PanelChoices + panelCount - 1;
        ref nint code = ref s_codes[index];
        return Volatile.Read(ref code) != 0 ? code : Emit(ref code, form, source, width, panelCount);
    }

    private static nint Emit(ref nint code, Form form, Source source, int width, int panelCount)
    {
        lock (s_emitting)
        {
            if (code == 0)
                Volatile.Write(ref code, (nint)new Emitter(form, source, width, panelCount).Emit());
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
        private readonly Source _source;
        private readonly int _width, _panelCount, _columnCount;
        private readonly AssemblerRegisterZMM[] _integers, _floats, _weights, _planes, _spare;
        private readonly AssemblerRegisterZMM _broadcast, _low, _bits, _lift;

        public Emitter(Form form, Source source, int width, int panelCount)
        {
            (_form, _source, _width, _panelCount) = (form, source, width, panelCount);
            AssemblerRegisterZMM[] vectors = MachineCode.Vectors;
            _columnCount = Math.Min(width, vectors.Length >= VectorsOfFourColumns ? 4 : 2);
            int sums = panelCount * _columnCount;
            _integers = vectors[..(2 * sums)];
            _floats = vectors[(2 * sums)..(3 * sums)];
            _weights = vectors[(3 * sums)..(3 * sums + panelCount)];
            _broadcast = vectors[3 * sums + panelCount];
            _spare = vectors[(3 * sums + panelCount + 1)..];
            // Packed sources serve one panel, which leaves registers for them.
            if (source > Source.PackedBytes)
                (_low, _bits, _lift, _planes) = (_spare[3], _spare[4], _spare[5], _spare[6..9]);
            else
                _planes = [];
        }

        public void* Emit()
        {
            Label pass = _code.CreateLabel(), group = _code.CreateLabel();
            Label tile = _code.CreateLabel();
            Constants();
            _code.Label(ref tile);
            _code.mov(Field(nameof(Arguments.PassCount)), _width / _columnCount);
            _code.Label(ref pass);
            _code.mov(_quants[0], Field(nameof(Arguments.FirstQuants)));
            _code.mov(_quants[1], Field(nameof(Arguments.Second)));
            _code.mov(_scales, Field(nameof(Arguments.Scales)));
            _code.mov(_x, Field(nameof(Arguments.X)));
            _code.mov(_acc, Field(nameof(Arguments.Accumulators)));
            _code.mov(_groups, Field(nameof(Arguments.GroupCount)));
            Start();

            _code.Label(ref group);
            Products();
            for (int panel = 0; panel < _panelCount; panel++)
                AddGroup(panel);
            for (int panel = 0; panel < _panelCount; panel++)
                _code.add(_quants[panel], GroupBytes);
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

            if (_source != Source.Bytes)
                FetchAndLoadPlanes();
            for (int step = 0; step < HalfSteps; step++)
            {
                for (int half = 0; half < 2; half++)
                {
                    int at = half * HalfSteps + step;
                    for (int panel = 0; panel < _panelCount; panel++)
                        LoadWeights(panel, half, step);
                    for (int column = 0; column < _columnCount; column++)
                    {
                        _code.vpbroadcastd(_broadcast, Entry(ActivationTiles.FirstStep + at, column));
                        for (int panel = 0; panel < _panelCount; panel++)
                            _code.vpdpbusd(Integer(half, panel, column), _weights[panel], _broadcast);
                    }
                }
            }
        }

        private int GroupBytes => _source switch
        {
            Source.Bytes or Source.PackedBytes => 2 * HalfSteps * VectorBytes,
            Source.NibblesAndBits => 5 * VectorBytes,
            Source.NibblesAndPairs => 6 * VectorBytes,
            Source.Pairs => 2 * VectorBytes,
            Source.PairsAndBits => 3 * VectorBytes,
            _ => 4 * VectorBytes,
        };

        private bool HasPairsAlone => _source is Source.Pairs or Source.PairsAndBits;

        // Where the planes of a group begin.
        private int PlanesAt => HasPairsAlone ? 0 : HalfSteps * VectorBytes;

        // Masks, and the table of levels.
        private void Constants()
        {
            if (_source <= Source.PackedBytes)
                return;
            Spread(_low, HasPairsAlone ? 0x03 : 0x0f);
            Spread(_bits, _source switch
            {
                Source.NibblesAndPairs => 0x30,
                Source.PairsAndBits => 0x04,
                _ => 0x10,
            });
            Spread(_lift, PanelLayout.ThreeBitLift);
            _code.mov(_quants[1], Field(nameof(Arguments.Second)));
            if (_source == Source.Levels)
                _code.vmovdqu32(_planes[0], __zmmword_ptr[_quants[1]]);
        }

        private void Spread(AssemblerRegisterZMM vector, int value)
        {
            _code.mov(eax, value * 0x01010101);
            _code.vpbroadcastd(vector, eax);
        }

        private void FetchAndLoadPlanes()
        {
            for (int at = 0; at < GroupBytes; at += VectorBytes)
                _code.prefetcht0(__byte_ptr[_quants[0] + (PanelLayout.PrefetchBytes + at)]);
            for (int at = PlanesAt; _source > Source.PackedBytes && at < GroupBytes; at += VectorBytes)
                _code.vmovdqu32(_planes[(at - PlanesAt) / VectorBytes], __zmmword_ptr[_quants[0] + at]);
        }

        // A step of weights as bytes.
        private void LoadWeights(int panel, int half, int step)
        {
            AssemblerRegisterZMM weights = _weights[panel];
            if (_source <= Source.PackedBytes)
            {
                _code.vmovdqu32(weights, __zmmword_ptr[_quants[panel] + (half * HalfSteps + step) * VectorBytes]);
                return;
            }

            if (HasPairsAlone)
            {
                AssemblerRegisterZMM pairs = _planes[half];
                if (step > 0)
                    _code.vpsrlw(weights, pairs, (byte)(2 * step));
                _code.vpandd(weights, step > 0 ? weights : pairs, _low);
                if (_source == Source.PairsAndBits)
                {
                    AddBits(weights, _planes[2], 2 - half * HalfSteps - step);
                    _code.vpaddb(weights, weights, _lift);
                }

                return;
            }

            AssemblerMemoryOperand stored = __zmmword_ptr[_quants[panel] + step * VectorBytes];
            if (half == 0)
            {
                _code.vpandd(weights, _low, stored);
            }
            else
            {
                _code.vpsrlw(weights, stored, 4);
                _code.vpandd(weights, weights, _low);
            }

            switch (_source)
            {
                case Source.NibblesAndBits:
                    AddBits(weights, _planes[0], 4 - half * HalfSteps - step);
                    break;
                case Source.NibblesAndPairs:
                    AddBits(weights, _planes[half], 4 - 2 * step);
                    break;
                case Source.Levels:
                    _code.vpshufb(weights, _planes[0], weights);
                    break;
            }
        }

        // weights |= plane << left & bits. What a shift carries over from the neighbouring byte is masked away.
        private void AddBits(AssemblerRegisterZMM weights, AssemblerRegisterZMM plane, int left)
        {
            const byte firstOrBothOthers = 0xF8;
            AssemblerRegisterZMM shifted = left == 0 ? plane : _spare[0];
            if (left > 0)
                _code.vpsllw(shifted, plane, (byte)left);
            else if (left < 0)
                _code.vpsrlw(shifted, plane, (byte)-left);
            _code.vpternlogd(weights, shifted, _bits, firstOrBothOthers);
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

    // Second: the other panel's quants, or the table of levels. The code moves X and the accumulators and counts the tiles and passes down.
    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public byte* FirstQuants, Second;
        public float* Scales, X, Accumulators;
        public long GroupCount, TileCount, TileGapBytes, PassCount;
    }
}
