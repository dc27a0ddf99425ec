using Qian.Kernels;

namespace Qian.Inference.Formats;

// Writes an open checkpoint as one GGUF file, tensor for tensor as llama.cpp's converter names, orders and transforms them.
// Rows stream through: memory holds a few of them, whatever the tensor's size.
internal static class GgufExport
{
    // Matrices take `type` where their rows are whole blocks of it (else Q8_0, else F16); vectors, norms, the convolution and
    // the router stay F32. `tokenizer` stands in for a checkpoint that has none. An adapter is merged in float32, before its
    // matrices are stored as `type`.
    public static void Write(
        Checkpoint checkpoint, string path, WeightType type, TokenizerSpec? tokenizer = null, AdapterWeights? adapter = null, IProgress<LoadProgress>? progress = null, CancellationToken cancellation = default)
    {
        ModelConfig config = checkpoint.Config;
        tokenizer = checkpoint.LoadTokenizer() ?? tokenizer;
        using var writer = new GgufWriter(path);
        GgufMetadata.Write(writer, config, FileType(type));
        GgufMetadata.WriteSampling(writer, checkpoint.Generation.Sampling);
        if (tokenizer is not null)
            GgufMetadata.WriteTokenizer(writer, tokenizer, checkpoint.ChatTemplate);

        List<Entry> entries = List(checkpoint, type, adapter);
        foreach (Entry entry in entries)
            writer.Declare(entry.Name, entry.Type, entry.Sizes);
        var order = new ValueHeadOrder(config);
        long done = 0;
        foreach (Entry entry in entries)
        {
            foreach (TensorSource source in entry.Sources)
                WriteRows(writer, source, entry, order, cancellation);
            done += entry.ByteCount;
            progress?.Report(new LoadProgress(done, writer.DeclaredBytes, entry.Name));
        }

        writer.Complete();
    }

    private static void WriteRows(GgufWriter writer, TensorSource source, Entry entry, ValueHeadOrder order, CancellationToken cancellation)
    {
        var values = new float[source.ColumnCount];
        var reordered = new float[source.ColumnCount];
        var bytes = new byte[WeightFormat.RowBytes(entry.Type, source.ColumnCount)];
        for (int row = 0; row < source.RowCount; row++)
        {
            cancellation.ThrowIfCancellationRequested();
            source.DecodeRows(order.SourceRow(entry.Role, row), 1, values);
            order.Reorder(entry.Role, values, reordered);
            try
            {
                WeightFormat.Encode(entry.Type, reordered, bytes);
            }
            catch (ArgumentException e)
            {
                throw new BadModelFileException($"tensor {FileText.Quote(source.Name)}, row {order.SourceRow(entry.Role, row)}: cannot be stored as {WeightFormat.Name(entry.Type)}: {e.Message}", e);
            }

            writer.Write(bytes);
        }
    }

    private static List<Entry> List(Checkpoint checkpoint, WeightType type, AdapterWeights? adapter)
    {
        Dictionary<(TensorRole, int), AdapterTarget> targets = adapter?.InOrderOf(checkpoint.Config).ToDictionary(target => (target.Role, target.Layer)) ?? [];
        ModelConfig config = checkpoint.Config;
        var entries = new List<Entry>();
        foreach (TensorRole role in (ReadOnlySpan<TensorRole>)[TensorRole.Output, TensorRole.OutputNorm, TensorRole.TokenEmbedding])
        {
            if (role != TensorRole.Output || !config.TiedEmbeddings)
                entries.Add(new Entry(role, -1, [Source(role, -1)], type));
        }

        for (int layer = 0; layer < config.LayerCount + config.MtpLayerCount; layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (TensorShapes.IsLayerless(role) || !TensorShapes.Occurs(config, role, layer))
                    continue;
                TensorSource[] sources = TensorShapes.IsExpert(role)
                    ? [.. Enumerable.Range(0, config.ExpertCount).Select(expert => checkpoint.Require(role, layer, expert))]
                    : [Source(role, layer)];
                entries.Add(new Entry(role, layer, sources, type));
            }
        }

        return entries;

        TensorSource Source(TensorRole role, int layer)
        {
            TensorSource source = checkpoint.Require(role, layer);
            return targets.TryGetValue((role, layer), out AdapterTarget? target)
                ? new MergedTensor(source, target, adapter!.Scale(target)) { Name = source.Name, RowCount = source.RowCount, ColumnCount = source.ColumnCount }
                : source;
        }
    }

    // general.file_type of a file whose matrices are of one type.
    private static int FileType(WeightType type) => type switch
    {
        WeightType.F32 => 0,
        WeightType.F16 => 1,
        WeightType.Q4_0 => 2,
        WeightType.Q4_1 => 3,
        WeightType.Q8_0 => 7,
        WeightType.Q5_0 => 8,
        WeightType.Q5_1 => 9,
        WeightType.Q2_K => 10,
        WeightType.Q3_K => 12,
        WeightType.Q4_K => 15,
        WeightType.Q5_K => 17,
        WeightType.Q6_K => 18,
        WeightType.IQ4_NL => 25,
        WeightType.IQ4_XS => 30,
        WeightType.BF16 => 32,
        WeightType.MXFP4 => 38,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "no file type for this weight type"),
    };

    private sealed class Entry
    {
        public Entry(TensorRole role, int layer, TensorSource[] sources, WeightType type)
        {
            Role = role;
            Sources = sources;
            Name = TensorNames.Gguf(role, layer);
            int rows = sources[0].RowCount, columns = sources[0].ColumnCount;
            bool isVector = rows == 1 || TensorShapes.IsVector(role);
            Sizes = isVector ? [columns] : TensorShapes.IsExpert(role) ? [columns, rows, sources.Length] : [columns, rows];
            Type = isVector || role is TensorRole.LinearConv or TensorRole.RouterGate ? WeightType.F32 : Fitting(type, columns);
            ByteCount = WeightFormat.RowBytes(Type, columns) * rows * sources.Length;
        }

        public TensorRole Role { get; }

        public string Name { get; }

        public TensorSource[] Sources { get; }

        public WeightType Type { get; }

        public long[] Sizes { get; }

        public long ByteCount { get; }

        private static WeightType Fitting(WeightType type, int columns)
        {
            if (columns % WeightFormat.BlockValues(type) == 0)
                return type;
            return columns % WeightFormat.BlockValues(WeightType.Q8_0) == 0 ? WeightType.Q8_0 : WeightType.F16;
        }
    }
}
