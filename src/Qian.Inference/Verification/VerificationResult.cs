namespace Qian.Inference.Verification;

// One line of a verification report: what was compared, what was measured, and the bound that it had to meet.
// An equality check reports the count of differences as Value against a Bound of 0.
internal readonly record struct VerificationResult(string Subject, string Quantity, double Value, double Bound, bool Passed, string Detail);
