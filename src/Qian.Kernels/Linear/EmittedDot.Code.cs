using System.Runtime.InteropServices;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

// The code itself. Per group of 32 columns: 8 steps of products into two integer sums per panel and column (one for either half), then the float
// operations of the C# form. Products, multiplications and fused multiply-adds share two pipes of the CPU, so their count bounds the speed (8 and 3 in the
// common form); everything else is there to keep those two busy.
internal static unsafe partial class EmittedDot
{
    private const int HalfSteps = 4;

    // Integer sums, float sums, weights, one broadcast, three for the end of a group.
    private const int VectorsOfFourColumns = 2 * 8 + 8 + 2 + 1 + 3;

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
