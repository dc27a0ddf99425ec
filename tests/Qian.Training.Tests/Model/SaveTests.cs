using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;
using Qian.Training.Model;

namespace Qian.Training.Tests.Model;

public sealed class SaveTests
{
    // Untrained weights go out as they came in, byte for byte: nothing is lost in reading, and nothing left out.
    [Theory]
    [InlineData("text-dense-tiny", 0f)]
    [InlineData("text-moe-tiny", 0f)]
    [InlineData("mtp-tiny", 0.5f)]
    [InlineData("mtp-tiny", 0f)]
    public void AnUntrainedModelIsSavedAsItWas(string name, float mtpWeight)
    {
        string source = Path.Combine(ModelFolders.Goldens, name);
        using var folder = new TempFolder();
        using (var team = new ThreadTeam(1))
        using (TrainingModel model = TrainingModel.Full(source, new TrainingModelOptions { MaxRows = 8, MtpLossWeight = mtpWeight }, team))
            model.Save(folder.Path);
        using SafetensorsSet before = SafetensorsSet.OpenFolder(source), after = SafetensorsSet.OpenFolder(folder.Path);
        Assert.Equal(before.Tensors.Select(tensor => tensor.Name), after.Tensors.Select(tensor => tensor.Name));
        foreach (SafetensorsTensor tensor in before.Tensors)
        {
            SafetensorsTensor saved = after.Find(tensor.Name)!;
            Assert.Equal(tensor.Type, saved.Type);
            Assert.Equal(tensor.Sizes.ToArray(), saved.Sizes.ToArray());
            Assert.True(tensor.Data.Span(0, (int)tensor.Data.Length).SequenceEqual(saved.Data.Span(0, (int)saved.Data.Length)), tensor.Name);
        }

        Assert.Equal(File.ReadAllBytes(Path.Combine(source, "config.json")), File.ReadAllBytes(Path.Combine(folder.Path, "config.json")));
        Assert.DoesNotContain(Directory.GetFiles(folder.Path), file => file.EndsWith(".part", StringComparison.Ordinal));
    }

    // Trained values survive exactly in float32, and to half a last place in BF16.
    [Theory]
    [InlineData(nameof(SavedType.F32), 0)]
    [InlineData(nameof(SavedType.BF16), 1 / 256.0)]
    public void TrainedValuesComeBack(string type, double bound)
    {
        using var folder = new TempFolder();
        using var team = new ThreadTeam(2);
        var options = new TrainingModelOptions { MaxRows = 32 };
        TrainingBatch batch = ModelFolders.Batch(ModelFolders.Prompt(ModelFolders.Moe).AsSpan(0, 32), 32);
        using TrainingModel model = TrainingModel.Full(ModelFolders.Moe, options, team);
        model.ForwardBackward(batch, 1f);
        Span<float> values = model.Store.Values.Span, gradients = model.Store.Gradients.Span;
        for (int i = 0; i < values.Length; i++)
            values[i] -= 0.003f * gradients[i];
        model.Save(folder.Path, Enum.Parse<SavedType>(type));

        using TrainingModel again = TrainingModel.Full(folder.Path, options, team);
        Span<float> saved = again.Store.Values.Span;
        Assert.Equal(values.Length, saved.Length);
        for (int i = 0; i < values.Length; i++)
            Assert.True(Math.Abs(values[i] - saved[i]) <= bound * Math.Abs(values[i]));
        if (bound == 0)
            Assert.Equal(model.Evaluate(batch), again.Evaluate(batch));
    }

    // What a reader finds in a folder that is written over is the new model.
    [Fact]
    public void AnIndexOfAnEarlierModelDoesNotSurvive()
    {
        using var folder = new TempFolder();
        string index = Path.Combine(folder.Path, "model.safetensors.index.json");
        File.WriteAllText(index, "{\"weight_map\":{\"x\":\"model-00001-of-00002.safetensors\"}}");
        using var team = new ThreadTeam(1);
        var options = new TrainingModelOptions { MaxRows = 8 };
        using (TrainingModel model = TrainingModel.Full(ModelFolders.Mtp, options, team))
            model.Save(folder.Path);
        Assert.False(File.Exists(index));
        TrainingModel.Full(folder.Path, options, team).Dispose();
    }

    [Fact]
    public void AGgufFileIsNoSourceOfFullTraining()
    {
        using var team = new ThreadTeam(1);
        Assert.Throws<BadRequestException>(() => TrainingModel.Full(Path.Combine(ModelFolders.Goldens, "gguf-tiny", "Q4_K_M.gguf"), new TrainingModelOptions { MaxRows = 8 }, team));
    }
}
