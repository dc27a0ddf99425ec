using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Qian.Inference;
using Qian.Inference.Tests;

namespace Qian.Server.Tests;

// HTTPS with a certificate of a made-up authority, in every form of file that is read.
public sealed class TlsTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Password = "p w";

    [Theory]
    [InlineData("two files")]
    [InlineData("one file")]
    [InlineData("encrypted key")]
    [InlineData("pfx")]
    public async Task TheServerShowsItsCertificateAndChain(string form)
    {
        using var folder = new TempFolder();
        using Authority authority = new();
        ServerOptions options = authority.Write(folder, form);
        await using TestServer server = await TestServer.StartAsync(model.Load(), options);
        Assert.Equal("https", server.Server.Address.Scheme);
        using var handler = new SocketsHttpHandler { SslOptions = authority.Trusted() };
        using var client = new HttpClient(handler) { BaseAddress = server.Server.Address };
        using HttpResponseMessage response = await client.GetAsync("/v1/models");
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        // Who does not know the authority does not talk to it.
        await Assert.ThrowsAsync<HttpRequestException>(() => server.Client.GetAsync("/v1/models"));
    }

    [Fact]
    public void ACertificateThatCannotBeUsedIsRefusedAtTheStart()
    {
        using var folder = new TempFolder();
        using Authority authority = new();
        ServerOptions options = authority.Write(folder, "two files");
        options.Validate();
        foreach (ServerOptions wrong in (ServerOptions[])[options with { CertificateKeyPath = null }, options with { CertificatePath = folder.File("none.pem") }, authority.Write(folder, "pfx") with { CertificatePassword = "wrong" }])
            Assert.Contains(nameof(ServerOptions.CertificatePath), Assert.Throws<BadRequestException>(wrong.Validate).Message, StringComparison.Ordinal);
        Assert.Contains(nameof(ServerOptions.CertificateKeyPath), Assert.Throws<BadRequestException>((options with { CertificatePath = null }).Validate).Message, StringComparison.Ordinal);
    }

    // A root, and a certificate of it for localhost with one authority in between, which only the server can show.
    private sealed class Authority : IDisposable
    {
        private readonly X509Certificate2 _root;
        private readonly X509Certificate2 _middle;
        private readonly X509Certificate2 _leaf;

        public Authority()
        {
            _root = Sign("CN=root", null, true);
            _middle = Sign("CN=middle", _root, true);
            _leaf = Sign("CN=localhost", _middle, false);
        }

        public ServerOptions Write(TempFolder folder, string form)
        {
            using ECDsa key = _leaf.GetECDsaPrivateKey()!;
            string certificates = _leaf.ExportCertificatePem() + "\n" + _middle.ExportCertificatePem() + "\n";
            string certificate = folder.File("server.pem"), keyFile = folder.File("server.key"), pfx = folder.File("server.pfx");
            switch (form)
            {
                case "two files":
                    File.WriteAllText(certificate, certificates);
                    File.WriteAllText(keyFile, key.ExportPkcs8PrivateKeyPem());
                    return new ServerOptions { CertificatePath = certificate, CertificateKeyPath = keyFile };
                case "one file":
                    File.WriteAllText(certificate, certificates + key.ExportPkcs8PrivateKeyPem());
                    return new ServerOptions { CertificatePath = certificate };
                case "encrypted key":
                    File.WriteAllText(certificate, certificates);
                    File.WriteAllText(keyFile, key.ExportEncryptedPkcs8PrivateKeyPem(Password, new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000)));
                    return new ServerOptions { CertificatePath = certificate, CertificateKeyPath = keyFile, CertificatePassword = Password };
                default:
                    File.WriteAllBytes(pfx, new X509Certificate2Collection { _leaf, X509CertificateLoader.LoadCertificate(_middle.RawData) }.Export(X509ContentType.Pfx, Password)!);
                    return new ServerOptions { CertificatePath = pfx, CertificatePassword = Password };
            }
        }

        public SslClientAuthenticationOptions Trusted()
        {
            var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck, DisableCertificateDownloads = true };
            policy.CustomTrustStore.Add(X509CertificateLoader.LoadCertificate(_root.RawData));
            return new SslClientAuthenticationOptions { CertificateChainPolicy = policy };
        }

        public void Dispose()
        {
            _leaf.Dispose();
            _middle.Dispose();
            _root.Dispose();
        }

        private static X509Certificate2 Sign(string name, X509Certificate2? issuer, bool isAuthority)
        {
            using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var request = new CertificateRequest(name, key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(isAuthority, false, 0, true));
            var names = new SubjectAlternativeNameBuilder();
            names.AddDnsName("localhost");
            names.AddIpAddress(IPAddress.Loopback);
            request.CertificateExtensions.Add(names.Build());
            DateTimeOffset from = DateTimeOffset.UtcNow.AddDays(-1), to = DateTimeOffset.UtcNow.AddDays(1);
            if (issuer is null)
                return request.CreateSelfSigned(from, to);
            using X509Certificate2 signed = request.Create(issuer, from, to.AddHours(-1), RandomNumberGenerator.GetBytes(8));
            return signed.CopyWithPrivateKey(key);
        }
    }
}
