namespace Qian.Inference.Verification;
internal static class ToolCallCases { public static bool Recognises(string p) => false; public static List<VerificationResult> Run(string p) => []; }
