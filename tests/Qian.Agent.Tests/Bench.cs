using Microsoft.Extensions.AI;
using Qian.Inference.Tests;

namespace Qian.Agent.Tests;

// A folder with tools over it.
internal sealed class Bench : IDisposable
{
    private readonly TempFolder _outer = new();

    // The folder of the workspace has a neighbour that nobody may touch.
    public Bench(Permissions? permissions = null, double seconds = 300, IReadOnlyList<string>? tools = null)
    {
        Directory.CreateDirectory(Folder);
        Directory.CreateDirectory(Path.Combine(_outer.Path, "project-2"));
        File.WriteAllText(Secret, "secret\n");
        Tools = new ToolBox(new Workspace(Folder), permissions ?? new Permissions { AllowAll = true }, TimeSpan.FromSeconds(seconds), tools);
    }

    public string Folder => Path.Combine(_outer.Path, "project");

    public string Secret => Path.Combine(_outer.Path, "project-2", "secret.txt");

    public ToolBox Tools { get; }

    public List<PermissionRequest> Asked { get; } = [];

    public string At(string path) => Path.Combine(Folder, path);

    public void Put(string path, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(At(path))!);
        File.WriteAllText(At(path), text);
    }

    public async Task<ToolResult> Use(string tool, CancellationToken cancellation, params (string Name, string Value)[] arguments) =>
        await Tools.RunAsync(tool, arguments.ToDictionary(argument => argument.Name, argument => argument.Value), Asked.Add, cancellation);

    public Task<ToolResult> Use(string tool, params (string Name, string Value)[] arguments) => Use(tool, CancellationToken.None, arguments);

    public CodingAgent Agent(IChatClient client, int mostSteps = 20, long compactAt = long.MaxValue) => new(client, Tools, new ChatOptions(), mostSteps, compactAt);

    public void Dispose() => _outer.Dispose();
}
