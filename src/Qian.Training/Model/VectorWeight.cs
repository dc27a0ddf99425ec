using Qian.Kernels;

namespace Qian.Training.Model;

// How the network uses a vector that the files store in another form.
internal enum VectorForm
{
    Plain,      // as stored
    OnePlus,    // 1 + w: the norms of the residual stream and of query and key
    NegativeExp // -exp(A_log): the decay of the delta rule
}

// A vector (norm, filter, gate bias) as kernels take it, beside where its gradient goes. The stored form is the parameter's;
// the kernels' form is a small copy made anew before each pass, and a frozen vector's gradient goes where nobody looks.
internal sealed class VectorWeight
{
    private readonly FloatView _stored;
    private readonly FloatView _storedGradient;
    private readonly VectorForm _form;

    // Trained: `kernelForm` and `kernelGradient` have the parameter's length; unused for Plain, the second only for NegativeExp.
    public VectorWeight(FloatView stored, FloatView storedGradient, VectorForm form, FloatView kernelForm, FloatView kernelGradient)
    {
        _stored = stored;
        _storedGradient = storedGradient;
        _form = form;
        Value = form == VectorForm.Plain ? stored : kernelForm;
        Gradient = form == VectorForm.NegativeExp ? kernelGradient : storedGradient;
    }

    // Frozen, in the kernels' form already.
    public VectorWeight(FloatView value, FloatView ignoredGradient)
    {
        Value = value;
        Gradient = ignoredGradient.Slice(0, value.Length);
    }

    public FloatView Value { get; }

    public FloatView Gradient { get; }

    // Before a pass: the parameter may have been changed since the last one.
    public void Prepare()
    {
        if (_form == VectorForm.Plain)
            return;
        Span<float> stored = _stored.Span, value = Value.Span;
        for (int i = 0; i < value.Length; i++)
            value[i] = _form == VectorForm.OnePlus ? 1 + stored[i] : -MathF.Exp(stored[i]);
    }

    // After a backward pass: d(1 + w) is dw already; of a = -exp(A_log), dA_log = da · a.
    public void FoldGradient()
    {
        if (_form != VectorForm.NegativeExp)
            return;
        Span<float> to = _storedGradient.Span, from = Gradient.Span, value = Value.Span;
        for (int i = 0; i < to.Length; i++)
            to[i] += from[i] * value[i];
        from.Clear();
    }
}
