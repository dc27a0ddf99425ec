using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Qian.Inference;

namespace Qian.Server.Security;

// The certificate of a server that speaks TLS: a PEM file with its key in it or in a file of its own, or a PFX file. Further
// certificates of the file are the chain that clients are shown.
internal sealed class ServerCertificate : IDisposable
{
    private ServerCertificate(X509Certificate2 leaf, X509Certificate2Collection chain)
    {
        Leaf = leaf;
        Chain = chain;
    }

    public X509Certificate2 Leaf { get; }

    public X509Certificate2Collection Chain { get; }

    public static ServerCertificate Load(string path, string? keyPath, string? password)
    {
        try
        {
            return Path.GetExtension(path).ToLowerInvariant() is ".pfx" or ".p12" ? LoadPfx(path, password) : LoadPem(path, keyPath ?? path, password);
        }
        catch (Exception error) when (error is CryptographicException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new BadRequestException($"{nameof(ServerOptions.CertificatePath)}: expected a certificate with its key, as PEM or PFX: {error.Message}", error);
        }
    }

    public void Dispose()
    {
        Leaf.Dispose();
        foreach (X509Certificate2 certificate in Chain)
            certificate.Dispose();
    }

    private static ServerCertificate LoadPem(string path, string keyPath, string? password)
    {
        using X509Certificate2 read = password is null ? X509Certificate2.CreateFromPemFile(path, keyPath) : X509Certificate2.CreateFromEncryptedPemFile(path, password, keyPath);
        // Windows' TLS takes keys from a store only, which the way over PFX gives.
        X509Certificate2 leaf = X509CertificateLoader.LoadPkcs12(read.Export(X509ContentType.Pfx), null);
        var chain = new X509Certificate2Collection();
        chain.ImportFromPemFile(path);
        return new ServerCertificate(leaf, chain);
    }

    private static ServerCertificate LoadPfx(string path, string? password)
    {
        X509Certificate2Collection all = X509CertificateLoader.LoadPkcs12CollectionFromFile(path, password);
        X509Certificate2 leaf = all.FirstOrDefault(certificate => certificate.HasPrivateKey) ?? throw new CryptographicException("the file holds no private key");
        all.Remove(leaf);
        return new ServerCertificate(leaf, all);
    }
}
