using Qian.Kernels;
using Qian.Training.Model;

namespace Qian.Training.Optimization;

// The optimiser's memory, and its step: two moments per value under AdamW, one (the momentum) for the matrices that Muon takes.
// Every parameter on its own and in the order of the list, so a step is the same bits whatever the number of threads.
internal sealed class OptimizerState : IDisposable
{
    private readonly IReadOnlyList<Parameter> _parameters;
    private readonly OptimizerOptions _options;
    private readonly ThreadTeam _team;
    private readonly NativeBuffer _buffer;
    private readonly Moments[] _moments;
    private readonly Muon? _muon;

    public OptimizerState(IReadOnlyList<Parameter> parameters, OptimizerOptions options, MatmulPrecision precision, ThreadTeam team)
    {
        _parameters = parameters;
        _options = options;
        _team = team;
        _buffer = NativeBuffer.AllocateFloats(FloatCount(parameters, options));
        _moments = new Moments[parameters.Count];
        long next = 0;
        for (int i = 0; i < parameters.Count; i++)
        {
            long length = parameters[i].Length;
            bool isMuon = IsMuon(parameters[i], options);
            _moments[i] = new Moments(_buffer.Floats(next, length), isMuon ? default : _buffer.Floats(next + length, length), isMuon);
            next += isMuon ? length : 2 * length;
        }

        if (options.Kind == OptimizerKind.Muon)
            _muon = new Muon(parameters.Where(parameter => IsMuon(parameter, options)), precision, team);
    }

    // What a saved state holds of it.
    public IEnumerable<(string Name, FloatView Values)> Tensors()
    {
        for (int i = 0; i < _parameters.Count; i++)
        {
            yield return ("first:" + _parameters[i].Name, _moments[i].First);
            if (!_moments[i].IsMuon)
                yield return ("second:" + _parameters[i].Name, _moments[i].Second);
        }
    }

    // One step against the gradients, each times gradientFactor. stepNumber counts from 1 since the moments were empty.
    public void Step(double rate, float gradientFactor, long stepNumber)
    {
        for (int i = 0; i < _parameters.Count; i++)
        {
            Parameter parameter = _parameters[i];
            Moments moments = _moments[i];
            double decay = parameter.IsMatrix || _options.DecayAll ? _options.WeightDecay : 0;
            if (moments.IsMuon)
            {
                _muon!.Step(parameter, moments.First, (float)rate, (float)decay, _options.Momentum, gradientFactor);
                continue;
            }

            AdamW.Step(parameter.Value, parameter.Gradient, moments.First, moments.Second, new AdamWStep(rate, _options.Beta1, _options.Beta2, _options.Epsilon, decay, checked((int)stepNumber), gradientFactor), _team);
        }
    }

    public void Dispose()
    {
        _muon?.Dispose();
        _buffer.Dispose();
    }

    private static long FloatCount(IReadOnlyList<Parameter> parameters, OptimizerOptions options)
    {
        long count = 0;
        foreach (Parameter parameter in parameters)
            count += IsMuon(parameter, options) ? parameter.Length : 2 * parameter.Length;
        return count;
    }

    private static bool IsMuon(Parameter parameter, OptimizerOptions options) => options.Kind == OptimizerKind.Muon && Muon.Takes(parameter);

    private readonly record struct Moments(FloatView First, FloatView Second, bool IsMuon);
}
