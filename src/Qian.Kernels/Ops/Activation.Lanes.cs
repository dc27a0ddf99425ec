using System.Runtime.CompilerServices;

namespace Qian.Kernels;

// The vector forms. e^x = 2^n · e^r with n = round(x / ln 2), |r| <= ln 2 / 2 and the Taylor series of e^r up to r^7, whose
// remainder is 0.04 ulp; r is taken off in two parts so that it keeps all its bits. Within 2 ulp everywhere, subnormals included.
internal static partial class Activation
{
    private const float LogTwoHigh = 0.693145751953125f; // 15 bits: exact times any n here
    private const float LogTwoLow = 1.42860676533018e-06f;
    private const float InverseLogTwo = 1.44269504088896f;

    // Beyond these e^x is infinite or rounds to zero.
    private const float MaxExponent = 89f;
    private const float MinExponent = -104f;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVec Exp<TLanes, TVec>(TVec x) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        // NaN must be the second operand to come through.
        x = TLanes.Max(TLanes.Broadcast(MinExponent), TLanes.Min(TLanes.Broadcast(MaxExponent), x));
        TVec n = TLanes.Round(TLanes.Multiply(x, TLanes.Broadcast(InverseLogTwo)));
        TVec r = TLanes.MultiplySubtractFrom(n, TLanes.Broadcast(LogTwoHigh), x);
        r = TLanes.MultiplySubtractFrom(n, TLanes.Broadcast(LogTwoLow), r);
        TVec sum = TLanes.MultiplyAdd(TLanes.Broadcast(1f / 5040), r, TLanes.Broadcast(1f / 720));
        sum = TLanes.MultiplyAdd(sum, r, TLanes.Broadcast(1f / 120));
        sum = TLanes.MultiplyAdd(sum, r, TLanes.Broadcast(1f / 24));
        sum = TLanes.MultiplyAdd(sum, r, TLanes.Broadcast(1f / 6));
        sum = TLanes.MultiplyAdd(sum, r, TLanes.Broadcast(0.5f));
        sum = TLanes.MultiplyAdd(sum, r, TLanes.Broadcast(1f));
        sum = TLanes.MultiplyAdd(sum, r, TLanes.Broadcast(1f));
        return TLanes.Scale(sum, n);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVec Sigmoid<TLanes, TVec>(TVec x) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec one = TLanes.Broadcast(1f);
        return TLanes.Divide(one, TLanes.Add(one, Exp<TLanes, TVec>(TLanes.Subtract(TLanes.Zero, x))));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVec Silu<TLanes, TVec>(TVec x) where TLanes : struct, ILanes<TVec> where TVec : struct =>
        TLanes.Divide(x, TLanes.Add(TLanes.Broadcast(1f), Exp<TLanes, TVec>(TLanes.Subtract(TLanes.Zero, x))));

    // log(1 + u) = 2 artanh(s) with s = u / (2 + u) <= 1/3 for u = e^-|x| <= 1; eight terms of its series leave 2e-9.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVec Softplus<TLanes, TVec>(TVec x) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec u = Exp<TLanes, TVec>(TLanes.Subtract(TLanes.Zero, TLanes.Absolute(x)));
        TVec s = TLanes.Divide(u, TLanes.Add(TLanes.Broadcast(2f), u));
        TVec square = TLanes.Multiply(s, s);
        TVec sum = TLanes.MultiplyAdd(TLanes.Broadcast(2f / 15), square, TLanes.Broadcast(2f / 13));
        sum = TLanes.MultiplyAdd(sum, square, TLanes.Broadcast(2f / 11));
        sum = TLanes.MultiplyAdd(sum, square, TLanes.Broadcast(2f / 9));
        sum = TLanes.MultiplyAdd(sum, square, TLanes.Broadcast(2f / 7));
        sum = TLanes.MultiplyAdd(sum, square, TLanes.Broadcast(2f / 5));
        sum = TLanes.MultiplyAdd(sum, square, TLanes.Broadcast(2f / 3));
        sum = TLanes.MultiplyAdd(sum, square, TLanes.Broadcast(2f));
        return TLanes.MultiplyAdd(sum, s, TLanes.Max(TLanes.Zero, x));
    }
}
