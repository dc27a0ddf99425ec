using Qian.Kernels;

namespace Qian.Training.Model;

// The gated MLP: y += down · (silu(gate · x) * (up · x)). Also one expert of a mixture, over the rows routed to it.
internal sealed class MlpLayer(LinearWeight gate, LinearWeight up, LinearWeight down)
{
    public int Width => gate.Rows;

    // y [rowCount, hidden] (+)= MLP(x); the gate and up rows stay in `gateRows` and `upRows` for the way back.
    public void Forward(FloatView x, FloatView y, bool accumulate, int rowCount, FloatView gateRows, FloatView upRows, MlpBuffers buffers, TrainingPass pass)
    {
        gate.Forward(x, gateRows, rowCount, accumulate: false, pass);
        up.Forward(x, upRows, rowCount, accumulate: false, pass);
        SwiGlu.Apply(gateRows, upRows, buffers.Activated, (long)rowCount * Width, pass.Team);
        down.Forward(buffers.Activated, y, rowCount, accumulate, pass);
    }

    // dx [rowCount, hidden] (+)= gradient; gateRows and upRows become their own gradients.
    public void Backward(FloatView x, FloatView dy, FloatView dx, bool accumulate, int rowCount, FloatView gateRows, FloatView upRows, MlpBuffers buffers, TrainingPass pass)
    {
        long count = (long)rowCount * Width;
        SwiGlu.Apply(gateRows, upRows, buffers.Activated, count, pass.Team);
        down.Backward(buffers.Activated, dy, buffers.DActivated, rowCount, accumulate: false, pass);
        SwiGlu.Backward(gateRows, upRows, buffers.DActivated, gateRows, upRows, count, pass.Team);
        gate.Backward(x, gateRows, dx, rowCount, accumulate, pass);
        up.Backward(x, upRows, dx, rowCount, accumulate: true, pass);
    }
}
