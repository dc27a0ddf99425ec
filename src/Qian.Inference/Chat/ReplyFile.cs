using System.Security.Cryptography;
using System.Text;
using Qian.Inference.Formats;

namespace Qian.Inference.Chat;

// The replies that an engine remembers, as a file beside its kept states: rewritten whole, with a SHA-256 at its end. A file that
// is not sound is read as if it were empty.
internal static class ReplyFile
{
    private const uint Magic = 0x524B4E51;   // "QNKR"
    private const int FormatVersion = 1;
    private const int SumBytes = 32;
    private const long MaxBytes = 256L << 20;
    private const int MaxReplyTokens = 1 << 20;

    public static void Save(string path, KnownReply[] replies)
    {
        using var memory = new MemoryStream();
        using (var writer = new BinaryWriter(memory, Encoding.UTF8, leaveOpen: true))
        {
            writer.Write(Magic);
            writer.Write(FormatVersion);
            writer.Write(replies.Length);
            foreach (KnownReply reply in replies)
            {
                writer.Write(reply.Key);
                writer.Write(reply.PromptHash);
                writer.Write(reply.ContentIndex);
                writer.Write(reply.Thinks);
                writer.Write(reply.HasAnswer);
                writer.Write(reply.Reasoning);
                writer.Write(reply.Tokens.Length);
                foreach (int token in reply.Tokens)
                    writer.Write(token);
            }
        }

        ReadOnlySpan<byte> content = memory.GetBuffer().AsSpan(0, (int)memory.Length);
        try
        {
            using var file = new PartialFile(path);
            file.Write(content);
            file.Write(SHA256.HashData(content));
            file.Commit();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Another start reads the echoes anew.
        }
    }

    public static void Load(string path, ReplyMemory replies)
    {
        foreach (KnownReply reply in Read(path))
            replies.Add(reply);
    }

    private static List<KnownReply> Read(string path)
    {
        var replies = new List<KnownReply>();
        try
        {
            var info = new FileInfo(path);
            if (!info.Exists || info.Length is < SumBytes or > MaxBytes)
                return replies;
            byte[] bytes = File.ReadAllBytes(path);
            if (!SHA256.HashData(bytes.AsSpan(0, bytes.Length - SumBytes)).AsSpan().SequenceEqual(bytes.AsSpan(bytes.Length - SumBytes)))
                return replies;
            using var reader = new BinaryReader(new MemoryStream(bytes, 0, bytes.Length - SumBytes), Encoding.UTF8);
            if (reader.ReadUInt32() != Magic || reader.ReadInt32() != FormatVersion)
                return replies;
            for (int count = reader.ReadInt32(); count > 0; count--)
                replies.Add(ReadReply(reader));
            return replies;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or FormatException or InvalidDataException)
        {
            return [];
        }
    }

    private static KnownReply ReadReply(BinaryReader reader)
    {
        string key = reader.ReadString();
        byte[] prompt = reader.ReadBytes(SHA256.HashSizeInBytes);
        int content = reader.ReadInt32();
        bool thinks = reader.ReadBoolean(), hasAnswer = reader.ReadBoolean();
        string reasoning = reader.ReadString();
        int count = reader.ReadInt32();
        if (count is < 1 or > MaxReplyTokens || content < -1 || content >= count)
            throw new InvalidDataException("a reply's length");
        var tokens = new int[count];
        for (int i = 0; i < count; i++)
            tokens[i] = reader.ReadInt32();
        return new KnownReply(key, prompt, tokens, content, thinks, reasoning) { HasAnswer = hasAnswer };
    }
}
