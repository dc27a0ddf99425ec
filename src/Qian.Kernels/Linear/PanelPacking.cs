using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace Qian.Kernels;

/// <summary>
/// Fills the packed layout from rows in file order, panel by panel. Where the rows come from, and in which order, is the caller's business.
/// </summary>
internal static unsafe partial class PanelPacking
{
    public static void Pack(WeightType type, int rowCount, int columnCount, ByteView source, byte* panels, ThreadTeam team)
    {
        var job = new PackJob
        {
            Layout = PanelLayout.For(type, columnCount),
            Source = source.Pointer,
            Panels = panels,
            RowCount = rowCount,
            RowBytes = WeightFormat.RowBytes(type, columnCount),
        };
        team.Run(ref job, (rowCount + PanelLayout.PanelRows - 1) / PanelLayout.PanelRows);
    }

    public static void Encode(WeightType type, int rowCount, int columnCount, RowSource rows, byte* own, bool pack, ThreadTeam team) =>
        Encode(type, rowCount, columnCount, rows, null, own, pack, team);

    // From blocks that somebody else makes.
    public static void Encode(WeightType type, int rowCount, int columnCount, BlockSource blocks, byte* own, bool pack, ThreadTeam team) =>
        Encode(type, rowCount, columnCount, null, blocks, own, pack, team);

    private static void Encode(WeightType type, int rowCount, int columnCount, RowSource? rows, BlockSource? blocks, byte* own, bool pack, ThreadTeam team)
    {
        var job = new EncodeJob
        {
            Type = type,
            Rows = rows,
            Blocks = blocks,
            RowCount = rowCount,
            ColumnCount = columnCount,
            RowBytes = WeightFormat.RowBytes(type, columnCount),
            Packs = pack,
            Layout = pack ? PanelLayout.For(type, columnCount) : default,
            Own = own,
            Failure = new FailureBox(),
        };
        team.Run(ref job, (rowCount + PanelLayout.PanelRows - 1) / PanelLayout.PanelRows);
        if (job.Failure.Exception is { } exception)
            ExceptionDispatchInfo.Throw(exception);
    }

    // rows: up to 16 rows of the file format, one after another; missing ones become zero rows.
    // Load-time code runs once: it must not wait for the JIT to find it hot.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackPanel(in PanelLayout layout, byte* rows, long rowBytes, int rowCount, byte* panel)
    {
        byte* zeros = stackalloc byte[512];
        byte** sources = stackalloc byte*[PanelLayout.PanelRows];
        NativeMemory.Clear(zeros, 512);
        Touch(rows, rowBytes * rowCount);
        int blockBytes = WeightFormat.BlockBytes(layout.Type) * (PanelLayout.BlockColumns / WeightFormat.BlockValues(layout.Type));
        for (int block = 0; block < layout.BlockCount; block++)
        {
            for (int r = 0; r < PanelLayout.PanelRows; r++)
                sources[r] = r < rowCount ? rows + r * rowBytes + (long)block * blockBytes : zeros;
            byte* head = panel + (long)block * layout.HeadBlockBytes;
            byte* quants = panel + layout.HeadBytes + (long)block * PanelLayout.BlockGroups * layout.QuantGroupBytes;
            PackBlock(layout, sources, head, quants, layout.GroupsIn(block));
        }
    }

    // Sixteen rows are one run of bytes. Read front to back they come at the memory's speed; sixteen pieces at a time, at its latency.
    private static void Touch(byte* bytes, long count)
    {
        for (long i = 0; i < count; i += 64)
            Volatile.Read(ref bytes[i]);
    }

    // One panel a chunk.
    private struct PackJob : IChunkedJob
    {
        public PanelLayout Layout;
        public byte* Source;
        public byte* Panels;
        public int RowCount;
        public long RowBytes;

        public readonly void Run(int chunk)
        {
            int row = chunk * PanelLayout.PanelRows;
            PackPanel(Layout, Source + row * RowBytes, RowBytes, Math.Min(PanelLayout.PanelRows, RowCount - row), Panels + chunk * Layout.PanelBytes);
        }
    }

    private sealed class FailureBox
    {
        public volatile Exception? Exception;
    }

    // One panel a chunk. The caller's row source may throw, which must not happen on a worker: it is carried back.
    private struct EncodeJob : IChunkedJob
    {
        public WeightType Type;
        public RowSource? Rows;
        public BlockSource? Blocks;
        public int RowCount;
        public int ColumnCount;
        public long RowBytes;
        public bool Packs;
        public PanelLayout Layout;
        public byte* Own;
        public FailureBox Failure;

        public readonly void Run(int chunk)
        {
            int first = chunk * PanelLayout.PanelRows;
            int count = Math.Min(PanelLayout.PanelRows, RowCount - first);
            if (Failure.Exception is not null)
                return;
            byte* encoded = Packs ? (byte*)NativeMemory.Alloc((nuint)(count * RowBytes)) : Own + first * RowBytes;
            float* values = (float*)NativeMemory.AllocZeroed((nuint)ColumnCount, sizeof(float));
            try
            {
                for (int r = 0; r < count; r++)
                {
                    var bytes = new Span<byte>(encoded + r * RowBytes, checked((int)RowBytes));
                    var row = new Span<float>(values, ColumnCount);
                    Blocks?.Invoke(first + r, bytes);
                    Rows?.Invoke(first + r, row);
                    if (Rows is not null)
                        WeightFormat.Encode(Type, row, bytes);
                }

                if (Packs)
                    PackPanel(Layout, encoded, RowBytes, count, Own + chunk * Layout.PanelBytes);
            }
            catch (Exception exception)
            {
                Failure.Exception = exception;
            }
            finally
            {
                NativeMemory.Free(values);
                if (Packs)
                    NativeMemory.Free(encoded);
            }
        }
    }
}
