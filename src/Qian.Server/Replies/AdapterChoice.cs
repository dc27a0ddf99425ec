using Qian.Inference;
using Qian.Server.Http;

namespace Qian.Server.Replies;

// Which adapter a request is answered with: the field "adapter" names one, or else the field "model" does, for clients that
// know no other way to choose. Any other model's name stands for the model as it is.
internal static class AdapterChoice
{
    public static Adapter? Of(JsonFields body, Engine engine)
    {
        if (body.Text("adapter") is { } name)
            return name.Length == 0 ? null : engine.FindAdapter(name) ?? throw body.Invalid("adapter", "no adapter of this name is loaded; GET /v1/adapters lists those that are.");
        return body.Text("model") is { } model ? engine.FindAdapter(model) : null;
    }
}
