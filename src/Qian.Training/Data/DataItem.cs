namespace Qian.Training;

// One unit of reading: a line of a JSONL file, a section of a plain document, or a source file (with its project and its path in it).
// Bytes are UTF-8; Fault says why there are none.
internal readonly record struct DataItem(DataItemKind Kind, string Source, ReadOnlyMemory<byte> Bytes, string? Fault = null, string Repository = "", string Path = "");

internal enum DataItemKind
{
    JsonLine,

    // The end of a document is taught; a section that more text follows has none.
    DocumentPart,
    DocumentEnd,

    SourceFile,
}
