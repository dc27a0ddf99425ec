using System.Runtime.CompilerServices;

namespace Qian.Kernels;

internal static partial class Activation
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVec SiluSlope<TLanes, TVec>(TVec x, TVec sigmoid) where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        TVec one = TLanes.Broadcast(1f);
        return TLanes.Multiply(sigmoid, TLanes.MultiplyAdd(x, TLanes.Subtract(one, sigmoid), one));
    }
}
