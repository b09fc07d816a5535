"""A certificate authority for tests, on Canonical's library for its providers."""

from __future__ import annotations

import datetime
import json
import re

import ops
from charmlibs.interfaces import certificate_transfer, tls_certificates as tls
from charmlibs.interfaces.tls_certificates import _tls_certificates as library
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

UNITS = {'s': 'seconds', 'm': 'minutes', 'h': 'hours', 'd': 'days'}
TEN_YEARS = datetime.timedelta(days=3650)
CODES = tls.CertificateRequestErrorCode


def duration(text: str) -> datetime.timedelta:
    """Parse a duration such as 90d."""
    match = re.fullmatch(r'(\d+)([smhd])', text)
    if not match:
        raise ValueError(f'{text!r} is no duration: write 60s, 10m, 2h or 90d')
    return datetime.timedelta(**{UNITS[match[2]]: int(match[1])})


class Authority:
    """A certificate and its key."""

    def __init__(self, certificate: str, key: str):
        self.certificate = x509.load_pem_x509_certificate(certificate.encode())
        self.key = serialization.load_pem_private_key(key.encode(), password=None)

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode().strip()

    @property
    def stored(self) -> list[str]:
        """Certificate and key as PEM."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        return [self.pem, key.decode()]

    @classmethod
    def make(cls, name: str, issuer: Authority | None = None) -> Authority:
        """Make an authority: a root, or one below the issuer."""
        authority = cls.__new__(cls)
        authority.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer = issuer or authority
        identity = x509.SubjectKeyIdentifier.from_public_key
        usage = dict.fromkeys(
            (
                'content_commitment',
                'key_encipherment',
                'data_encipherment',
                'key_agreement',
                'encipher_only',
                'decipher_only',
            ),
            False,
        )
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(authority.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - TEN_YEARS)
            .not_valid_after(now + TEN_YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True, key_cert_sign=True, crl_sign=True, **usage
                ),
                critical=True,
            )
            .add_extension(identity(authority.key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier(identity(signer.key.public_key()).digest, None, None),
                critical=False,
            )
        )
        authority.certificate = builder.sign(signer.key, hashes.SHA256())
        return authority

    def sign(
        self,
        request: tls.RequirerCertificateRequest,
        backdate: datetime.timedelta,
        validity: datetime.timedelta,
    ) -> tls.Certificate:
        """Sign a request as the library's `Certificate.generate` does.

        That function knows no start, and names as issuer who issued the authority's certificate,
        which is wrong for an intermediate.
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        csr = x509.load_pem_x509_csr(str(request.certificate_signing_request).encode())
        builder = x509.CertificateBuilder(
            subject_name=csr.subject,
            issuer_name=self.certificate.subject,
            public_key=csr.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - backdate,
            not_valid_after=now + validity,
        )
        identity = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        extensions = library._generate_certificate_request_extensions(
            authority_key_identifier=identity.digest, csr=csr, is_ca=request.is_ca
        )
        for extension in extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        signed = builder.sign(self.key, hashes.SHA256())
        return tls.Certificate.from_string(
            signed.public_bytes(serialization.Encoding.PEM).decode()
        )


class Provider(ops.CharmBase):
    """The charm."""

    _stored = ops.StoredState()

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._stored.set_default(root=[], intermediate=[], roots=[], made=0, revoked=False)
        said = str(self.config['capabilities'])
        capabilities = tls.ProviderCapabilities(**json.loads(said)) if said else None
        self.certificates = tls.TLSCertificatesProvidesV4(self, 'certificates', capabilities)
        self.transfer = certificate_transfer.CertificateTransferProvides(self, 'send-ca-cert')
        for event in (
            self.on.config_changed,
            self.on.update_status,
            self.on['certificates'].relation_changed,
            self.on['send-ca-cert'].relation_changed,
        ):
            framework.observe(event, self._converge)
        for action in self.meta.actions:
            handler = getattr(self, '_' + action.replace('-', '_'))
            framework.observe(self.on[action].action, handler)

    # The authority

    def _authorities(self) -> list[Authority]:
        """Return who signs, and the authorities above; make them the first time."""
        if not self._stored.root:
            self._make()
        root = Authority(*self._stored.root)
        if self.config['ca'] == 'self-signed':
            return [root]
        return [Authority(*self._stored.intermediate), root]

    def _make(self):
        self._stored.made += 1
        number = self._stored.made
        root = Authority.make(f'{self.app.name} root {number}')
        intermediate = Authority.make(f'{self.app.name} intermediate {number}', root)
        self._stored.root = root.stored
        self._stored.intermediate = intermediate.stored
        self._stored.roots.append(root.pem)

    # Answers

    def _converge(self, _: ops.EventBase):
        if not self.unit.is_leader():
            self.unit.status = ops.BlockedStatus('only one unit is supported: scale to 1')
            return
        self._authorities()
        if not self.config['hold'] and not self._stored.revoked:
            for request in self.certificates.get_outstanding_certificate_requests():
                self._answer(request)
        self._send()
        self.unit.status = ops.ActiveStatus()

    def _sign_all(self):
        for request in self.certificates.get_certificate_requests():
            self._answer(request)

    def _answer(self, request: tls.RequirerCertificateRequest):
        csr = request.certificate_signing_request
        refusal = str(self.config['refuse'])
        if refusal:
            self._refuse(request, CODES.OTHER, refusal)
            return
        if self.config['refuse-ips'] and csr.sans_ip:
            self._refuse(request, CODES.IP_NOT_ALLOWED, 'addresses are not allowed by policy')
            return
        authorities = self._authorities()
        backdate, validity = (duration(str(self.config[key])) for key in ('backdate', 'validity'))
        certificate = authorities[0].sign(request, backdate, validity)
        above = [tls.Certificate.from_string(authority.pem) for authority in authorities]
        full = self.config['chain'] == 'full'
        self.certificates.set_relation_certificate(
            tls.ProviderCertificate(
                relation_id=request.relation_id,
                certificate=certificate,
                certificate_signing_request=csr,
                ca=above[0],
                # The library's writer needs the certificate in its chain.
                chain=[certificate, *(above if full else [])],
            )
        )
        if self.config['chain'] == 'none':
            self._drop_chains(request.relation_id)

    def _refuse(self, request: tls.RequirerCertificateRequest, code: CODES, message: str):
        self.certificates.set_relation_error(
            tls.ProviderCertificateError(
                relation_id=request.relation_id,
                certificate_signing_request=request.certificate_signing_request,
                error=tls.CertificateError(
                    code=code,
                    name=code.name.lower(),
                    message=message,
                    provider=self.app.name,
                ),
            )
        )

    def _drop_chains(self, relation_id: int):
        """Answer as old providers do."""
        relation = self.model.get_relation('certificates', relation_id)
        assert relation is not None
        answers = json.loads(relation.data[self.app]['certificates'])
        for answer in answers:
            answer.pop('chain', None)
        relation.data[self.app]['certificates'] = json.dumps(answers)

    def _send(self):
        """Send the roots. The library only adds, so remove what must not be trusted any more."""
        wanted = set(self._stored.roots)
        for relation in self.model.relations['send-ca-cert']:
            for old in self.transfer._get_relation_data(relation) - wanted:
                self.transfer.remove_certificate(old, relation.id)
            self.transfer.add_certificates(wanted, relation.id)

    # Actions

    def _get_ca(self, event: ops.ActionEvent):
        authorities = self._authorities()
        event.set_results({'root': authorities[-1].pem, 'issuer': authorities[0].pem})

    def _renew(self, _: ops.ActionEvent):
        self._sign_all()

    def _rotate_ca(self, event: ops.ActionEvent):
        old = list(self._stored.roots)
        self._make()
        if not event.params['keep-old']:
            for root in old:
                self._stored.roots.remove(root)
        self._sign_all()
        self._send()

    def _revoke(self, _: ops.ActionEvent):
        self._stored.revoked = True
        self.certificates.revoke_all_certificates()

    def _reissue(self, _: ops.ActionEvent):
        self._stored.revoked = False
        self._sign_all()


if __name__ == '__main__':
    ops.main(Provider)
