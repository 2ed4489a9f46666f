"""A certificate with all the names that a host may know the gateway by."""

import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Certificates of real services are older than a clock may be wrong.
AGE = datetime.timedelta(days=7)
PEM = serialization.Encoding.PEM


def make(authority_path, certificate_path, key_path, names):
    """Writes an authority, a certificate of it for the names and addresses, and the certificate's key."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = name("authority of a test")
    authority = builder(issuer, issuer, authority_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(authority_key, hashes.SHA256())
    certificate = builder(name("gateway of a test"), issuer, key).add_extension(
        x509.SubjectAlternativeName([alternative(one) for one in names]), critical=False).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False).sign(authority_key, hashes.SHA256())
    write(authority_path, authority.public_bytes(PEM))
    write(certificate_path, certificate.public_bytes(PEM))
    write(key_path, key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def builder(subject, issuer, key):
    now = datetime.datetime.now(datetime.timezone.utc)
    return x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), now - AGE, now + AGE)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def alternative(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def write(path, data):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(data)
