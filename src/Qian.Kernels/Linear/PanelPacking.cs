using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace Qian.Kernels;

/// <summary>
/// Fills the packed layout from rows in file order. Work goes in windows of a few MiB per thread: read the window's pages ahead, repack
/// its panels, drop the pages, so that a file and its packed copy never stand in memory together.
/// </summary>
internal static unsafe partial class PanelPacking
{
    private const long WindowBytes = 8 << 20;

    public static void Pack(WeightType type, int rowCount, int columnCount, ByteView source, NativeBuffer panels, ThreadTeam team, bool releaseSource)
    {
        long rowBytes = WeightFormat.RowBytes(type, columnCount);
        int panelCount = (rowCount + PanelLayout.PanelRows - 1) / PanelLayout.PanelRows;
        int panelsPerChunk = (int)Math.Clamp(WindowBytes / (rowBytes * PanelLayout.PanelRows), 1, Math.Max(1, panelCount / (2 * team.ThreadCount)));
        var job = new PackJob
        {
            Layout = PanelLayout.For(type, columnCount),
            Source = source,
            Panels = panels.Pointer,
            RowCount = rowCount,
            RowBytes = rowBytes,
            PanelsPerChunk = panelsPerChunk,
            Releases = releaseSource,
        };
        team.Run(ref job, (panelCount + panelsPerChunk - 1) / panelsPerChunk);
    }

    public static void Encode(WeightType type, int rowCount, int columnCount, RowSource rows, NativeBuffer own, bool pack, ThreadTeam team)
    {
        var job = new EncodeJob
        {
            Type = type,
            Rows = rows,
            RowCount = rowCount,
            ColumnCount = columnCount,
            RowBytes = WeightFormat.RowBytes(type, columnCount),
            Packs = pack,
            Layout = pack ? PanelLayout.For(type, columnCount) : default,
            Own = own.Pointer,
            Failure = new FailureBox(),
        };
        team.Run(ref job, (rowCount + PanelLayout.PanelRows - 1) / PanelLayout.PanelRows);
        if (job.Failure.Exception is { } exception)
        {
            own.Dispose();
            ExceptionDispatchInfo.Throw(exception);
        }
    }

    // rows: up to 16 rows of the file format, one after another; missing ones become zero rows.
    // Load-time code runs once: it must not wait for the JIT to find it hot.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackPanel(in PanelLayout layout, byte* rows, long rowBytes, int rowCount, byte* panel)
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

    private struct PackJob : IChunkedJob
    {
        public PanelLayout Layout;
        public ByteView Source;
        public byte* Panels;
        public int RowCount;
        public long RowBytes;
        public int PanelsPerChunk;
        public bool Releases;

        public readonly void Run(int chunk)
        {
            int first = chunk * PanelsPerChunk * PanelLayout.PanelRows;
            int end = Math.Min(first + PanelsPerChunk * PanelLayout.PanelRows, RowCount);
            ByteView window = Source.Slice(first * RowBytes, (end - first) * RowBytes);
            window.Populate();
            for (int row = first; row < end; row += PanelLayout.PanelRows)
            {
                byte* panel = Panels + row / PanelLayout.PanelRows * Layout.PanelBytes;
                PackPanel(Layout, Source.Pointer + row * RowBytes, RowBytes, Math.Min(PanelLayout.PanelRows, end - row), panel);
            }

            if (Releases)
                window.Release();
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
        public RowSource Rows;
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
                    var row = new Span<float>(values, ColumnCount);
                    Rows(first + r, row);
                    WeightFormat.Encode(Type, row, new Span<byte>(encoded + r * RowBytes, checked((int)RowBytes)));
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
