namespace Qian.Inference.Model;

// Which part of the network a process holds: trunk layers First … End - 1, and whether the embedding and the head are here.
// One machine holds all of it; a pipeline over machines would hold a range each.
internal readonly record struct LayerRange(int First, int End, bool Embedding, bool Head)
{
    public int Count => End - First;

    public static LayerRange All(ModelConfig config) => new(0, config.LayerCount, Embedding: true, Head: true);

    public void Validate(ModelConfig config)
    {
        if (First < 0 || End > config.LayerCount || First >= End)
            throw new BadRequestException($"layer range {First}..{End} does not lie inside the model's {config.LayerCount} layers");
    }
}
