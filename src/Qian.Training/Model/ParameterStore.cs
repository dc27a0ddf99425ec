using Qian.Kernels;

namespace Qian.Training.Model;

// All parameters in two blocks of memory, values and gradients laid out alike, matrices before vectors: an optimiser keeps its
// own state in blocks of the same layout and steps over two flat runs, one with weight decay and one without. The padding
// between tensors is zero in both and stays so under any step.
internal sealed class ParameterStore : IDisposable
{
    private readonly List<Parameter> _parameters;
    private readonly FloatArena _values, _gradients;

    public ParameterStore(IEnumerable<Parameter> declared)
    {
        _parameters = [.. declared.Where(parameter => parameter.IsMatrix), .. declared.Where(parameter => !parameter.IsMatrix)];
        long floatCount = CountFloats(_parameters);
        _values = FloatArena.Allocate(floatCount);
        _gradients = FloatArena.Allocate(floatCount);
        foreach (Parameter parameter in _parameters)
        {
            parameter.Place(_values.Take(parameter.Length), _gradients.Take(parameter.Length));
            if (parameter.IsMatrix)
                MatrixFloatCount = _values.Mark;
        }

        Values = All(_values);
        Gradients = All(_gradients);
    }

    public IReadOnlyList<Parameter> Parameters => _parameters;

    // Every value with its padding; Gradients and an optimiser's moments are laid out in the same way.
    public FloatView Values { get; }

    public FloatView Gradients { get; }

    // The first floats of Values, which belong to matrices.
    public long MatrixFloatCount { get; }

    public void ZeroGradients() => Gradients.Clear();

    public void Dispose()
    {
        _values.Dispose();
        _gradients.Dispose();
    }

    public static long CountFloats(IEnumerable<Parameter> parameters)
    {
        FloatArena count = FloatArena.Counting();
        foreach (Parameter parameter in parameters)
            count.Take(parameter.Length);
        return count.FloatCount;
    }

    private static FloatView All(FloatArena arena)
    {
        long floatCount = arena.Mark;
        arena.Rewind(0);
        return arena.Take(floatCount);
    }
}
