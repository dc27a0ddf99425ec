using System.Runtime.CompilerServices;

namespace Qian.Kernels;

/// <summary>
/// The packed product of the fast tiers. For each block of b (some columns by up to <see cref="MicroKernel.MaxSteps"/> steps of K): all threads pack it into
/// panels, then take parts of c from a counter; a part packs its rows of a into the thread's own memory and runs the micro-kernel over its
/// tiles. What lies past an edge is packed as zeros, and tiles that reach over c's edge go through a tile on the stack.
/// </summary>
public static unsafe partial class Matmul
{
    // Parts of c per thread and block, so that a thread that was held up does not hold up the others.
    private const int PartsPerThread = 8;

    private static void MultiplyPacked(
        in MicroKernel kernel, in MatrixView a, in MatrixView b, in MatrixView c, bool accumulate, MatmulScratch scratch, ThreadTeam team)
    {
        int innerCount = a.ColumnCount;
        int slotCount = IsWorthForking(c, innerCount) ? Math.Min(team.ThreadCount, scratch.ThreadCount) : 1;
        var job = new PackedJob
        {
            Kernel = kernel,
            A = Operand.Left(a),
            B = Operand.Right(b),
            C = c.Pointer,
            CStride = c.RowCount > 1 ? c.RowStride : 0,
            RowCount = c.RowCount,
            SharedPanels = scratch.Shared,
            OwnPanels = scratch.OfThread(0),
        };

        int blockDepth = EvenBlock(innerCount, MicroKernel.MaxSteps * kernel.Depth, 8 * kernel.Depth);
        for (int firstColumn = 0; firstColumn < c.ColumnCount;)
        {
            int maxColumns = MatmulScratch.SharedValues / OperandPacking.PanelValues(kernel.Columns, Steps(kernel, blockDepth)) * kernel.Columns;
            int columnCount = Math.Min(EvenBlock(c.ColumnCount, maxColumns, kernel.Columns), c.ColumnCount - firstColumn);
            for (long firstInner = 0; firstInner < innerCount; firstInner += blockDepth)
            {
                job.FirstInner = firstInner;
                job.InnerCount = (int)Math.Min(blockDepth, innerCount - firstInner);
                job.Steps = Steps(kernel, job.InnerCount);
                job.FirstColumn = firstColumn;
                job.ColumnCount = columnCount;
                job.Add = accumulate || firstInner > 0;
                RunBlock(ref job, slotCount, team);
            }

            firstColumn += columnCount;
        }
    }

    private static void RunBlock(ref PackedJob job, int slotCount, ThreadTeam team)
    {
        int columnPanelCount = Parts(job.ColumnCount, job.Kernel.Columns);
        job.IsPacking = true;
        job.PartCount = columnPanelCount;
        job.NextPart = 0;
        team.Run(ref job, slotCount);

        // Parts are some panels of a by all columns; where that makes too few, also columns are cut, and a's panels packed anew for each cut.
        int rowPanelCount = Parts(job.RowCount, job.Kernel.Rows);
        int wanted = slotCount == 1 ? 1 : slotCount * PartsPerThread;
        int fitting = (MatmulScratch.ValuesPerThread - OperandPacking.Slack) / OperandPacking.PanelValues(job.Kernel.Rows, job.Steps);
        job.PanelsPerPart = Math.Clamp(rowPanelCount / wanted, 1, fitting);
        int rowParts = Parts(rowPanelCount, job.PanelsPerPart);
        int columnParts = Math.Clamp(wanted / rowParts, 1, columnPanelCount);
        job.ColumnPanelsPerPart = Parts(columnPanelCount, columnParts);
        job.ColumnParts = Parts(columnPanelCount, job.ColumnPanelsPerPart);
        job.IsPacking = false;
        job.PartCount = rowParts * job.ColumnParts;
        job.NextPart = 0;
        team.Run(ref job, slotCount);
    }

    private static int Steps(in MicroKernel kernel, int innerCount) => Parts(innerCount, kernel.Depth);

    private static int Parts(int count, int size) => (int)(((long)count + size - 1) / size);

    // The size of equal blocks of at most `largest`, a multiple of `granule` as `largest` is.
    private static int EvenBlock(int count, int largest, int granule)
    {
        int blocks = Parts(count, largest);
        return Parts(Parts(count, blocks), granule) * granule;
    }

    // Both phases of a block. A chunk is a slot of the scratch; whoever runs it takes parts until none are left.
    private struct PackedJob : IChunkedJob
    {
        public MicroKernel Kernel;
        public Operand A, B;
        public float* C;
        public long CStride;
        public int RowCount;
        public int FirstColumn, ColumnCount;
        public long FirstInner;
        public int InnerCount, Steps;
        public int PanelsPerPart, ColumnPanelsPerPart, ColumnParts;
        public int PartCount, NextPart;
        public bool Add, IsPacking;
        public uint* SharedPanels, OwnPanels;

        public void Run(int slot)
        {
            uint* own = OwnPanels + (long)slot * MatmulScratch.ValuesPerThread;
            while (true)
            {
                int part = Interlocked.Increment(ref NextPart) - 1;
                if (part >= PartCount)
                    return;
                if (IsPacking)
                    PackColumns(part);
                else
                    Multiply(part, own);
            }
        }

        private readonly void PackColumns(int panel)
        {
            int first = panel * Kernel.Columns;
            uint* to = SharedPanels + (long)panel * OperandPacking.PanelValues(Kernel.Columns, Steps);
            OperandPacking.Pack(
                Kernel.IsBrain, to, Kernel.Columns, B.At(FirstColumn + first, FirstInner), B.Stride, B.InnerStride,
                Math.Min(Kernel.Columns, ColumnCount - first), InnerCount);
        }

        [SkipLocalsInit]
        private readonly void Multiply(int part, uint* own)
        {
            int rowPart = part / ColumnParts;
            int firstRow = rowPart * PanelsPerPart * Kernel.Rows;
            int rowCount = (int)Math.Min((long)PanelsPerPart * Kernel.Rows, RowCount - firstRow);
            long rowPanelValues = OperandPacking.PanelValues(Kernel.Rows, Steps), columnPanelValues = OperandPacking.PanelValues(Kernel.Columns, Steps);
            OperandPacking.Pack(
                Kernel.IsBrain, own, Kernel.Rows, A.At(firstRow, FirstInner), A.Stride, A.InnerStride, rowCount, InnerCount);

            float* edge = stackalloc float[Kernel.Rows * Kernel.Columns];
            int firstPanel = (part - rowPart * ColumnParts) * ColumnPanelsPerPart;
            int endPanel = Math.Min(firstPanel + ColumnPanelsPerPart, Parts(ColumnCount, Kernel.Columns));
            for (int panel = firstPanel; panel < endPanel; panel++)
            {
                uint* b = SharedPanels + panel * columnPanelValues;
                int column = panel * Kernel.Columns;
                int columns = Math.Min(Kernel.Columns, ColumnCount - column);
                uint* a = own;
                for (int row = 0; row < rowCount; row += Kernel.Rows, a += rowPanelValues)
                {
                    float* c = C + (firstRow + row) * CStride + FirstColumn + column;
                    int rows = Math.Min(Kernel.Rows, rowCount - row);
                    if (rows == Kernel.Rows && columns == Kernel.Columns)
                    {
                        Kernel.Run(Steps, a, b, c, CStride, Add);
                        continue;
                    }

                    Kernel.Run(Steps, a, b, edge, Kernel.Columns, false);
                    PutEdge(edge, c, rows, columns);
                }
            }
        }

        private readonly void PutEdge(float* edge, float* c, int rows, int columns)
        {
            for (int i = 0; i < rows; i++, edge += Kernel.Columns, c += CStride)
            {
                for (int j = 0; j < columns; j++)
                    c[j] = Add ? c[j] + edge[j] : edge[j];
            }
        }
    }
}
