using System.Runtime.Intrinsics;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

internal static unsafe partial class EmittedDot
{
    // Walks a packed panel from its first block to its last against the only tile, and takes quants and scales apart in registers: a weight is met once, so
    // nothing of it is worth a visit to memory.
    private sealed class PanelEmitter : GroupEmitter
    {
        // 4 KiB is a few per cent slower, 8 KiB no faster.
        private const int FetchBytes = 6 << 10;

        private readonly WeightType _type;
        private readonly PanelLayout _layout;
        private readonly AssemblerRegister64 _ahead = rdx;
        private Label _levels;
        private readonly AssemblerRegisterZMM _low, _bits, _blockScale, _blockOffset;
        private readonly AssemblerRegisterZMM[] _planes;
        private readonly Dictionary<uint, Label> _constants = [];

        public PanelEmitter(WeightType type, int width)
            : base(FormOf(PanelLayout.For(type, PanelLayout.BlockColumns).Kind), width, ColumnsAtOnce(type, width), panelCount: 1)
        {
            _type = type;
            _layout = PanelLayout.For(type, PanelLayout.BlockColumns);
            _levels = Code.CreateLabel();
            (_low, _bits, _planes) = (Spare[0], Spare[1], Spare[2..(2 + PlaneCount)]);
            // 8 columns of Q6_K leave none for these, and it needs none.
            AssemblerRegisterZMM[] rest = Spare[(2 + PlaneCount)..];
            if (rest.Length > 1)
                (_blockScale, _blockOffset) = (rest[0], rest[1]);
        }

        // 8 where the registers hold their sums (on Windows there are fewer).
        private static int ColumnsAtOnce(WeightType type, int width)
        {
            bool holdsMany = type is not (WeightType.Q2_K or WeightType.Q3_K or WeightType.NVFP4);
            return Math.Min(width, MachineCode.Vectors.Length < 32 ? 2 : holdsMany ? ManyColumns : 4);
        }

        private bool HasPairsAlone => _type is WeightType.Q2_K or WeightType.Q3_K;

        private bool HasLevels => _type is WeightType.IQ4_NL or WeightType.IQ4_XS or WeightType.MXFP4 or WeightType.NVFP4;

        // Vectors of a group beside its nibbles, or the table of levels.
        private int PlaneCount => _type switch
        {
            WeightType.Q3_K => 3,
            WeightType.Q6_K or WeightType.Q2_K => 2,
            WeightType.Q5_K => 1,
            _ => HasLevels ? 1 : 0,
        };

        // Bytes of the head that a group moves on by.
        private int HeadStep => _type switch
        {
            WeightType.Q4_K or WeightType.Q5_K or WeightType.IQ4_XS or WeightType.MXFP4 => PanelLayout.PanelRows,
            _ => 2 * PanelLayout.PanelRows,
        };

        public override void* Emit()
        {
            Label block = Code.CreateLabel(), isWhole = Code.CreateLabel();
            SetUp();
            Code.mov(Quants[0], Field(nameof(Arguments.Quants)));
            Code.mov(Scales, Field(nameof(Arguments.Scales)));
            Code.mov(X, Field(nameof(Arguments.X)));
            Code.mov(Acc, Field(nameof(Arguments.Accumulators)));

            Code.Label(ref block);
            Code.mov(Groups, Field(nameof(Arguments.GroupCount)));
            Code.cmp(Groups, PanelLayout.BlockGroups);
            Code.jle(isWhole);
            Code.mov(Groups, PanelLayout.BlockGroups);
            Code.Label(ref isWhole);
            Code.sub(Field(nameof(Arguments.GroupCount)), Groups);
            Fetch();
            LoadBlock();
            bool returns = Width > ColumnCount;
            if (returns)
            {
                Code.mov(Field(nameof(Arguments.BlockGroupCount)), Groups);
                Code.mov(Field(nameof(Arguments.Quants)), Quants[0]);
                Code.mov(Field(nameof(Arguments.X)), X);
            }

            if (returns || Form == Form.RunScaled)
                Code.mov(Field(nameof(Arguments.Scales)), Scales);

            for (FirstColumn = 0; FirstColumn < Width; FirstColumn += ColumnCount)
            {
                if (FirstColumn > 0)
                {
                    Code.mov(Groups, Field(nameof(Arguments.BlockGroupCount)));
                    Code.mov(Quants[0], Field(nameof(Arguments.Quants)));
                    Code.mov(Scales, Field(nameof(Arguments.Scales)));
                    Code.mov(X, Field(nameof(Arguments.X)));
                }

                Pass();
            }

            if (_layout.HeadBlockBytes > PanelLayout.BlockGroups * HeadStep)
                Code.add(Scales, _layout.HeadBlockBytes - PanelLayout.BlockGroups * HeadStep);
            Code.cmp(Field(nameof(Arguments.GroupCount)), 0);
            Code.jg(block);
            Code.vzeroupper();
            Code.ret();
            AddConstants();
            return MachineCode.Publish(Code);
        }

        private void Pass()
        {
            Label group = Code.CreateLabel();
            ReadSums();
            Code.Label(ref group);
            StartGroup();
            FetchAndLoadPlanes();
            Multiply();
            AddGroup(0);
            Code.add(Quants[0], _layout.QuantGroupBytes);
            Code.add(Scales, HeadStep);
            Code.add(X, ActivationTiles.GroupDwords * Width * sizeof(float));
            Code.dec(Groups);
            Code.jne(group);
            WriteSums();
        }

        // Masks, and the table of levels.
        private void SetUp()
        {
            if (_type == WeightType.Q8_0)
                return;
            Code.vpbroadcastd(_low, Constant(Bytes(HasPairsAlone ? 0x03u : 0x0f)));
            Code.vpbroadcastd(_bits, Constant(Bytes(_type switch
            {
                WeightType.Q6_K => 0x30u,
                WeightType.Q3_K => 0x04,
                _ => 0x10,
            })));
            if (HasLevels)
                Code.vmovdqu32(_planes[0], __zmmword_ptr[_levels]);
            else if (_type == WeightType.Q3_K)
                Code.vpbroadcastd(_blockOffset, Constant(Bytes(PanelLayout.ThreeBitLift)));
        }

        // Asks for the head of the next panel's block, and says how far ahead of these quants those lie that are wanted next: at the end of a panel behind
        // the head of the next one. Quants are met once, so they pass the second cache by.
        private void Fetch()
        {
            int blockBytes = PanelLayout.BlockGroups * _layout.QuantGroupBytes;
            int blocks = (FetchBytes + blockBytes - 1) / blockBytes;
            Label isInside = Code.CreateLabel();
            Code.mov(_ahead, Field(nameof(Arguments.PanelBytes)));
            for (int at = 0; at < _layout.HeadBlockBytes; at += VectorBytes)
                Code.prefetcht1(__byte_ptr[Scales + _ahead + at]);
            Code.mov(_ahead, blocks * blockBytes);
            Code.cmp(Field(nameof(Arguments.GroupCount)), blocks * PanelLayout.BlockGroups);
            Code.jge(isInside);
            Code.add(_ahead, Field(nameof(Arguments.HeadBytes)));
            Code.Label(ref isInside);
        }

        // What a block's groups share.
        private void LoadBlock()
        {
            if (_type is WeightType.Q2_K or WeightType.Q4_K or WeightType.Q5_K or WeightType.IQ4_XS)
                Code.vcvtph2ps(_blockScale, __ymmword_ptr[Scales]);
            if (_type is WeightType.Q2_K or WeightType.Q4_K or WeightType.Q5_K)
            {
                Code.vcvtph2ps(_blockOffset, __ymmword_ptr[Scales + 2 * PanelLayout.PanelRows]);
                Code.vpxord(_blockOffset, _blockOffset, Spread(0x80000000));
            }
        }

        protected override AssemblerRegisterZMM LoadBlockScale(int panel)
        {
            Code.mov(_ahead, Field(nameof(Arguments.Scales)));
            Code.vcvtph2ps(ScaleVector, __ymmword_ptr[_ahead]);
            return ScaleVector;
        }

        // The operations of PanelUnpackAvx512's heads, one for one.
        protected override void LoadScales(int panel, int half)
        {
            const int rows = PanelLayout.PanelRows, halves = 2 * rows;
            AssemblerMemoryOperand here = __xmmword_ptr[Scales + half * rows];
            switch (_type)
            {
                case WeightType.Q4_K or WeightType.Q5_K:
                    Code.vpmovzxbd(ScaleVector, __xmmword_ptr[Scales + 2 * halves]);
                    Code.vpmovzxbd(OffsetVector, __xmmword_ptr[Scales + (2 * halves + PanelLayout.BlockGroups * rows)]);
                    ConvertBoth();
                    ScaleBoth();
                    break;
                case WeightType.Q2_K:
                    Code.vpmovzxbd(OffsetVector, __xmmword_ptr[Scales + (2 * halves + half * rows)]);
                    Code.vpandd(ScaleVector, OffsetVector, Spread(15));
                    Code.vpsrld(OffsetVector, OffsetVector, 4);
                    ConvertBoth();
                    ScaleBoth();
                    break;
                case WeightType.Q3_K or WeightType.Q6_K:
                    Code.vpmovsxbd(ScaleVector, __xmmword_ptr[Scales + halves]);
                    Code.vpmovsxbd(OffsetVector, __xmmword_ptr[Scales + (halves + rows)]);
                    ConvertBoth();
                    break;
                case WeightType.IQ4_XS:
                    Code.vpmovzxbd(ScaleVector, __xmmword_ptr[Scales + halves]);
                    Code.vcvtdq2ps(ScaleVector, ScaleVector);
                    Code.vsubps(ScaleVector, ScaleVector, Spread(32f));
                    Code.vmulps(ScaleVector, ScaleVector, _blockScale);
                    Code.vmulps(OffsetVector, ScaleVector, Spread(-128f));
                    break;
                case WeightType.MXFP4:
                    // 2^(e - 128); 255 is no number.
                    Code.vpmovzxbd(Product, here);
                    Code.vcvtdq2ps(ScaleVector, Product);
                    Code.vsubps(ScaleVector, ScaleVector, Spread(128f));
                    Code.vmovups(OffsetVector, ScaleVector);
                    Code.vpbroadcastd(ScaleVector, Constant(BitConverter.SingleToUInt32Bits(1)));
                    Code.vscalefps(ScaleVector, ScaleVector, OffsetVector);
                    Code.vpcmpeqd(k1, Product, Spread(255));
                    Code.vpternlogd(ScaleVector.k1, ScaleVector, ScaleVector, 0xff);
                    Code.vmulps(OffsetVector, ScaleVector, Spread(-12f));
                    break;
                case WeightType.NVFP4:
                    // As the upper bits of a float whose exponent is 120 + 7 - 8 too small.
                    Code.vpmovzxbd(ScaleVector, here);
                    Code.vpslld(ScaleVector, ScaleVector, 20);
                    Code.vmulps(ScaleVector, ScaleVector, Spread(MathF.ScaleB(PanelLayout.MiniFloatUnit, 127 - 15)));
                    Code.vmulps(OffsetVector, ScaleVector, Spread(-12f));
                    break;
                default:
                    Code.vcvtph2ps(ScaleVector, __ymmword_ptr[Scales]);
                    Code.vmulps(OffsetVector, ScaleVector, Spread(_type == WeightType.Q4_0 ? -8f : -128f));
                    break;
            }
        }

        private void ConvertBoth()
        {
            Code.vcvtdq2ps(ScaleVector, ScaleVector);
            Code.vcvtdq2ps(OffsetVector, OffsetVector);
        }

        private void ScaleBoth()
        {
            Code.vmulps(ScaleVector, ScaleVector, _blockScale);
            Code.vmulps(OffsetVector, OffsetVector, _blockOffset);
        }

        private void FetchAndLoadPlanes()
        {
            for (int at = 0; FirstColumn == 0 && at < _layout.QuantGroupBytes; at += VectorBytes)
                Code.prefetchnta(__byte_ptr[Quants[0] + _ahead + at]);
            if (_type == WeightType.Q8_0)
                return;
            int planesAt = HasPairsAlone ? 0 : HalfSteps * VectorBytes;
            for (int at = planesAt; at < _layout.QuantGroupBytes; at += VectorBytes)
                Code.vmovdqu32(_planes[(at - planesAt) / VectorBytes], __zmmword_ptr[Quants[0] + at]);
        }

        protected override void LoadWeights(int panel, int half, int step)
        {
            AssemblerRegisterZMM weights = Weights[0];
            if (_type == WeightType.Q8_0)
            {
                Code.vmovdqu32(weights, __zmmword_ptr[Quants[0] + (half * HalfSteps + step) * VectorBytes]);
                return;
            }

            if (HasPairsAlone)
            {
                AssemblerRegisterZMM pairs = _planes[half];
                if (step > 0)
                    Code.vpsrlw(weights, pairs, (byte)(2 * step));
                Code.vpandd(weights, step > 0 ? weights : pairs, _low);
                if (_type == WeightType.Q3_K)
                {
                    AddBits(weights, _planes[2], 2 - half * HalfSteps - step);
                    Code.vpaddb(weights, weights, _blockOffset);
                }

                return;
            }

            AssemblerMemoryOperand stored = __zmmword_ptr[Quants[0] + step * VectorBytes];
            if (half == 0)
            {
                Code.vpandd(weights, _low, stored);
            }
            else
            {
                Code.vpsrlw(weights, stored, 4);
                Code.vpandd(weights, weights, _low);
            }

            if (_type == WeightType.Q5_K)
                AddBits(weights, _planes[0], 4 - half * HalfSteps - step);
            else if (_type == WeightType.Q6_K)
                AddBits(weights, _planes[half], 4 - 2 * step);
            else if (HasLevels)
                Code.vpshufb(weights, _planes[0], weights);
        }

        // weights |= plane << left & bits. What a shift carries over from the neighbouring byte is masked away.
        private void AddBits(AssemblerRegisterZMM weights, AssemblerRegisterZMM plane, int left)
        {
            const byte firstOrBothOthers = 0xF8;
            AssemblerRegisterZMM shifted = left == 0 ? plane : Product;
            if (left > 0)
                Code.vpsllw(shifted, plane, (byte)left);
            else if (left < 0)
                Code.vpsrlw(shifted, plane, (byte)-left);
            Code.vpternlogd(weights, shifted, _bits, firstOrBothOthers);
        }

        private AssemblerMemoryOperand Spread(float value) => Spread(BitConverter.SingleToUInt32Bits(value));

        private AssemblerMemoryOperand Spread(uint value) => __dword_bcst[At(value)];

        private AssemblerMemoryOperand Constant(uint value) => __dword_ptr[At(value)];

        private static uint Bytes(uint value) => 0x01010101 * value;

        // Where a constant lies, behind the code.
        private Label At(uint value)
        {
            if (!_constants.TryGetValue(value, out Label label))
                _constants.Add(value, label = Code.CreateLabel());
            return label;
        }

        private void AddConstants()
        {
            foreach ((uint value, Label label) in _constants)
            {
                Label at = label;
                Code.Label(ref at);
                Code.dd(value);
            }

            if (!HasLevels)
                return;
            var levels = new byte[VectorBytes];
            fixed (byte* table = levels)
                PanelUnpackAvx512.Levels(_type).Store(table);
            Code.Label(ref _levels);
            Code.db(levels);
        }
    }
}
