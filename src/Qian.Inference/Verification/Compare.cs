namespace Qian.Inference.Verification;

// The distances that goldens are judged by. A value that is not finite is infinitely far away.
internal static class Compare
{
    public static double MaxAbsolute(ReadOnlySpan<float> ours, ReadOnlySpan<float> reference)
    {
        if (ours.Length != reference.Length)
            throw new ArgumentException($"{ours.Length} values against {reference.Length}");
        double worst = 0;
        for (int i = 0; i < ours.Length; i++)
        {
            double difference = Math.Abs((double)ours[i] - reference[i]);
            if (!(difference <= worst))
                worst = double.IsNaN(difference) ? double.PositiveInfinity : difference;
        }

        return worst;
    }

    public static double RelativeL2(ReadOnlySpan<float> ours, ReadOnlySpan<float> reference)
    {
        if (ours.Length != reference.Length)
            throw new ArgumentException($"{ours.Length} values against {reference.Length}");
        double error = 0, norm = 0;
        for (int i = 0; i < ours.Length; i++)
        {
            double difference = (double)ours[i] - reference[i];
            error += difference * difference;
            norm += (double)reference[i] * reference[i];
        }

        double relative = Math.Sqrt(error) / Math.Max(Math.Sqrt(norm), 1e-30);
        return double.IsNaN(relative) ? double.PositiveInfinity : relative;
    }

    public static double Rms(ReadOnlySpan<float> ours, ReadOnlySpan<float> reference)
    {
        if (ours.Length != reference.Length)
            throw new ArgumentException($"{ours.Length} values against {reference.Length}");
        double error = 0;
        for (int i = 0; i < ours.Length; i++)
        {
            double difference = (double)ours[i] - reference[i];
            error += difference * difference;
        }

        double rms = Math.Sqrt(error / Math.Max(1, ours.Length));
        return double.IsNaN(rms) ? double.PositiveInfinity : rms;
    }

    // The lowest index of the greatest value.
    public static int ArgMax(ReadOnlySpan<float> values)
    {
        int best = 0;
        for (int i = 1; i < values.Length; i++)
        {
            if (values[i] > values[best])
                best = i;
        }

        return best;
    }
}
