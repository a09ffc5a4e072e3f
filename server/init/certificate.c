/* Written for the API that mbedTLS 2.28 (Debian 12) and 3.6 (Debian 13) share; where they differ,
 * MBEDTLS_VERSION_MAJOR decides. */
#include "server/init/certificate.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecp.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/addr.h"

#define DAY_S 86400
#define YEARS_10_S (3650LL * DAY_S)
#define SAN_MAX 2048
#define TAG_DNS 0x82
#define TAG_IP 0x87

struct maker {
	mbedtls_entropy_context entropy;
	mbedtls_ctr_drbg_context random;
	mbedtls_pk_context key, issuer_key;
	mbedtls_x509_crt issuer;
	mbedtls_x509write_cert cert;
};

static void maker_init(struct maker *maker)
{
	mbedtls_entropy_init(&maker->entropy);
	mbedtls_ctr_drbg_init(&maker->random);
	mbedtls_pk_init(&maker->key);
	mbedtls_pk_init(&maker->issuer_key);
	mbedtls_x509_crt_init(&maker->issuer);
	mbedtls_x509write_crt_init(&maker->cert);
}

static void maker_fini(struct maker *maker)
{
	mbedtls_x509write_crt_free(&maker->cert);
	mbedtls_x509_crt_free(&maker->issuer);
	mbedtls_pk_free(&maker->issuer_key);
	mbedtls_pk_free(&maker->key);
	mbedtls_ctr_drbg_free(&maker->random);
	mbedtls_entropy_free(&maker->entropy);
}

static enum status check(int rc, const char *what, struct error *err)
{
	char text[128] = "";
	if (rc >= 0)
		return STATUS_OK;
	mbedtls_strerror(rc, text, sizeof text);
	return error_set(err, STATUS_INTERNAL, "certificate: %s: %s", what, text);
}

static void format_time(time_t at, char text[static 16])
{
	struct tm tm;
	gmtime_r(&at, &tm);
	strftime(text, 16, "%Y%m%d%H%M%S", &tm);
}

static int set_serial(struct maker *maker)
{
	uint8_t serial[16];
	int rc = mbedtls_ctr_drbg_random(&maker->random, serial, sizeof serial);
	if (rc != 0)
		return rc;
	serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x01); /* positive, and not shortened */
#if MBEDTLS_VERSION_MAJOR >= 3
	return mbedtls_x509write_crt_set_serial_raw(&maker->cert, serial, sizeof serial);
#else
	mbedtls_mpi number;
	mbedtls_mpi_init(&number);
	rc = mbedtls_mpi_read_binary(&number, serial, sizeof serial);
	if (rc == 0)
		rc = mbedtls_x509write_crt_set_serial(&maker->cert, &number);
	mbedtls_mpi_free(&number);
	return rc;
#endif
}

static int parse_key(struct maker *maker, const char *pem)
{
	size_t size = strlen(pem) + 1;
#if MBEDTLS_VERSION_MAJOR >= 3
	return mbedtls_pk_parse_key(&maker->issuer_key, (const uint8_t *)pem, size, NULL, 0,
		mbedtls_ctr_drbg_random, &maker->random);
#else
	(void)maker;
	return mbedtls_pk_parse_key(&maker->issuer_key, (const uint8_t *)pem, size, NULL, 0);
#endif
}

static enum status begin(struct maker *maker, struct error *err)
{
	int rc = mbedtls_ctr_drbg_seed(&maker->random, mbedtls_entropy_func, &maker->entropy,
		(const uint8_t *)"postern", 7);
	if (rc == 0)
		rc = mbedtls_pk_setup(&maker->key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
	if (rc == 0)
		rc = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(maker->key),
			mbedtls_ctr_drbg_random, &maker->random);
	return check(rc, "cannot make a key", err);
}

#define OID(name) name, MBEDTLS_OID_SIZE(name)

/* By hand, because mbedTLS 2.28 does not mark it critical, and strict clients (RFC 5280,
 * Python 3.13) want that of a CA. */
static int set_constraints(struct maker *maker, bool is_ca)
{
	static const uint8_t ca[] = {
		0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00}; /* cA TRUE, pathLen 0 */
	static const uint8_t leaf[] = {0x30, 0x00};
	return mbedtls_x509write_crt_set_extension(&maker->cert, OID(MBEDTLS_OID_BASIC_CONSTRAINTS),
		1, is_ca ? ca : leaf, is_ca ? sizeof ca : sizeof leaf);
}

static int set_usage(struct maker *maker, bool is_ca)
{
	static const uint8_t server[] = {0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07,
		0x03, 0x01}; /* serverAuth */
	if (is_ca)
		return mbedtls_x509write_crt_set_key_usage(
			&maker->cert, MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN);
	int rc = mbedtls_x509write_crt_set_key_usage(
		&maker->cert, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
	if (rc == 0)
		rc = mbedtls_x509write_crt_set_extension(&maker->cert,
			OID(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0, server, sizeof server);
	return rc;
}

static enum status finish(struct maker *maker, const char *subject, const char *issuer,
	mbedtls_pk_context *issuer_key, bool is_ca, struct certificate_pair *ret_pair,
	struct error *err)
{
	char from[16], until[16];
	time_t now = time(NULL);
	format_time(now - DAY_S, from);
	format_time(now + YEARS_10_S, until);
	mbedtls_x509write_crt_set_version(&maker->cert, MBEDTLS_X509_CRT_VERSION_3);
	mbedtls_x509write_crt_set_md_alg(&maker->cert, MBEDTLS_MD_SHA256);
	mbedtls_x509write_crt_set_subject_key(&maker->cert, &maker->key);
	mbedtls_x509write_crt_set_issuer_key(&maker->cert, issuer_key);
	int rc = mbedtls_x509write_crt_set_subject_name(&maker->cert, subject);
	if (rc == 0)
		rc = mbedtls_x509write_crt_set_issuer_name(&maker->cert, issuer);
	if (rc == 0)
		rc = set_serial(maker);
	if (rc == 0)
		rc = mbedtls_x509write_crt_set_validity(&maker->cert, from, until);
	if (rc == 0)
		rc = set_constraints(maker, is_ca);
	if (rc == 0)
		rc = set_usage(maker, is_ca);
	if (rc == 0)
		rc = mbedtls_x509write_crt_set_subject_key_identifier(&maker->cert);
	if (rc == 0)
		rc = mbedtls_x509write_crt_set_authority_key_identifier(&maker->cert);
	if (rc == 0)
		rc = mbedtls_x509write_crt_pem(&maker->cert, (uint8_t *)ret_pair->cert,
			sizeof ret_pair->cert, mbedtls_ctr_drbg_random, &maker->random);
	if (rc == 0)
		rc = mbedtls_pk_write_key_pem(
			&maker->key, (uint8_t *)ret_pair->key, sizeof ret_pair->key);
	return check(rc, "cannot write it", err);
}

enum status certificate_make_ca(struct certificate_pair *ret_ca, struct error *err)
{
	struct maker maker;
	maker_init(&maker);
	enum status status = begin(&maker, err);
	if (!status)
		status = finish(
			&maker, "CN=Postern CA", "CN=Postern CA", &maker.key, true, ret_ca, err);
	maker_fini(&maker);
	return status;
}

/* Appends one GeneralName to the DER of subjectAltName. */
static bool add_name(uint8_t *der, size_t *size, uint8_t tag, const void *bytes, size_t length)
{
	if (length > 127 || length + 2 > SAN_MAX - *size)
		return false;
	der[(*size)++] = tag;
	der[(*size)++] = (uint8_t)length;
	memcpy(der + *size, bytes, length);
	*size += length;
	return true;
}

/* What may stand in a host name, an address, or a wildcard. */
static bool is_name(const char *name)
{
	static const char good[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:*";
	return name[0] != '\0' && name[strspn(name, good)] == '\0';
}

static bool is_repeated(const char *const *names, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (strcmp(names[i], names[j]) == 0)
			return true;
	return false;
}

static enum status set_names(
	struct maker *maker, const char *const *names, size_t count, struct error *err)
{
	uint8_t list[SAN_MAX] = {0}, der[SAN_MAX + 4] = {0};
	size_t size = 0, header = 0;
	for (size_t i = 0; i < count; i++) {
		struct addr addr;
		if (!is_name(names[i]))
			return error_set(err, STATUS_INVALID_ARGUMENT,
				"--name \"%.80s\": give a host name or an address", names[i]);
		if (is_repeated(names, i))
			continue;
		bool fits = add_name(list, &size, TAG_DNS, names[i], strlen(names[i]));
		if (fits && addr_parse(names[i], &addr))
			fits = add_name(list, &size, TAG_IP, addr.bytes, addr_length(&addr));
		if (!fits)
			return error_set(err, STATUS_INVALID_ARGUMENT,
				"--name %.80s: too long, or too many names", names[i]);
	}
	der[header++] = 0x30; /* SEQUENCE */
	if (size > 255) {
		der[header++] = 0x82;
		der[header++] = (uint8_t)(size >> 8);
	} else if (size > 127) {
		der[header++] = 0x81;
	}
	der[header++] = (uint8_t)size;
	memcpy(der + header, list, size);
	int rc = mbedtls_x509write_crt_set_extension(
		&maker->cert, OID(MBEDTLS_OID_SUBJECT_ALT_NAME), 0, der, header + size);
	return check(rc, "cannot set its names", err);
}

enum status certificate_make_server(const struct certificate_pair *ca, const char *const *names,
	size_t name_count, struct certificate_pair *ret_server, struct error *err)
{
	struct maker maker;
	maker_init(&maker);
	enum status status = begin(&maker, err);
	if (!status)
		status = check(mbedtls_x509_crt_parse(&maker.issuer, (const uint8_t *)ca->cert,
				       strlen(ca->cert) + 1),
			"the CA", err);
	if (!status)
		status = check(parse_key(&maker, ca->key), "the CA's key", err);
	if (!status)
		status = set_names(&maker, names, name_count, err);
	if (!status)
		status = finish(&maker, "CN=posternd", "CN=Postern CA", &maker.issuer_key, false,
			ret_server, err);
	maker_fini(&maker);
	return status;
}

void certificate_wipe(struct certificate_pair *pair)
{
	mbedtls_platform_zeroize(pair, sizeof *pair);
}
