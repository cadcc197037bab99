package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"agentkeys/anchor"
	"agentkeys/config"
	"agentkeys/federation"
	"agentkeys/localaws"
	"agentkeys/store"
	"agentkeys/token"
)

// The account that demo and dev set up on the local AWS. The number is one that
// AWS uses in its documentation and gives to nobody.
const (
	localAccount = "111122223333"
	localRegion  = "us-east-1"
	localRole    = "agentkeys-data-role"
	localPrefix  = "bots"
)

// Names of what a local set-up keeps in its folder.
const (
	oidcKeyFile    = "oidc.jwk"
	sessionKeyFile = "session.jwk"
	auditKeyFile   = "audit.jwk"
	awsFolder      = "aws"
)

func localFederation(issuer, bucket string) federation.Config {
	return federation.Config{
		Issuer: issuer, Account: localAccount, Region: localRegion, Role: localRole,
		Bucket: bucket, Prefix: localPrefix, TagKey: token.TagKey, Audience: "sts.amazonaws.com",
	}
}

// createLocal makes keys, a database and an AWS account in a folder that is
// there and empty.
func createLocal(ctx context.Context, dir string) error {
	for file, purpose := range map[string]token.Purpose{oidcKeyFile: token.PurposeOIDC, sessionKeyFile: token.PurposeSession} {
		key, err := token.GenerateKey(purpose)
		if err != nil {
			return err
		}
		if err := token.WriteKeyFile(filepath.Join(dir, file), key); err != nil {
			return err
		}
	}
	key, err := token.GenerateAuditKey()
	if err != nil {
		return err
	}
	if err := token.WriteAuditKeyFile(filepath.Join(dir, auditKeyFile), key); err != nil {
		return err
	}
	if err := store.Create(ctx, filepath.Join(dir, databaseFile)); err != nil {
		return err
	}
	if err := anchor.CreateCheckpoints(filepath.Join(dir, headsFile)); err != nil {
		return err
	}
	aws := filepath.Join(dir, awsFolder)
	if err := os.Mkdir(aws, 0o700); err != nil {
		return fmt.Errorf("making the folder of the local AWS: %w", err)
	}
	return localaws.Create(awsConfig(dir, nil))
}

func awsConfig(dir string, log *slog.Logger) localaws.Config {
	return localaws.Config{Dir: filepath.Join(dir, awsFolder), Account: localAccount, Region: localRegion, Now: time.Now, Log: log}
}

// localConfig is the broker's configuration over such a folder.
func localConfig(dir, issuer string) config.Config {
	return config.Config{
		Issuer: issuer, DataDir: dir, OIDCAudience: "sts.amazonaws.com", OIDCTagKey: token.TagKey,
		OIDCKeyFile: filepath.Join(dir, oidcKeyFile), SessionKeyFile: filepath.Join(dir, sessionKeyFile),
		AuditKeyFile: filepath.Join(dir, auditKeyFile), AuditPolicy: config.DualStrict,
		OIDCTokenTTL: 5 * time.Minute, SessionTTL: 5 * time.Hour, JWKSMaxAge: 5 * time.Minute,
		WalletChainIDs: []int64{1},
		AWSSessionTTL:  time.Hour, RequireGrant: true, GrantMax: 90 * 24 * time.Hour, CallSkew: 2 * time.Minute,
		Mints:   config.Mints{PerAccount: 600, PerGrant: 600, PerNetwork: 6000},
		Anchors: []string{"sqlite"},
	}
}

// mintLocally has a broker mint AWS credentials from the local AWS at a URL.
func mintLocally(c *config.Config, bucket, url string) {
	c.AWS = config.AWS{Account: localAccount, Region: localRegion, Role: localRole, Bucket: bucket, Prefix: localPrefix}
	c.STSEndpoint = url
}

// localAWS is a local AWS that serves on a loopback port.
type localAWS struct {
	*localaws.Server
	url  string
	http *http.Server
	done chan error
}

// openAWS opens the state and makes the server that will serve it at addr.
func openAWS(addr net.Addr, c localaws.Config) (*localAWS, error) {
	s, err := localaws.Open(c)
	if err != nil {
		return nil, err
	}
	return &localAWS{Server: s, url: "http://" + addr.String(), done: make(chan error, 1),
		http: &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug)}}, nil
}

// startAWS opens the state and serves it until stop.
func startAWS(l net.Listener, c localaws.Config) (*localAWS, error) {
	a, err := openAWS(l.Addr(), c)
	if err != nil {
		return nil, err
	}
	go func() { a.done <- a.http.Serve(l) }() // ended by stop
	return a, nil
}

// stop ends the server and closes its state.
func (a *localAWS) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := a.http.Shutdown(ctx)
	if e := <-a.done; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, a.Close())
}

// trailEvery is how often the local AWS delivers its CloudTrail, if it has one. The
// real one takes about five minutes.
const trailEvery = 2 * time.Second

// deliverTrail delivers the CloudTrail until ctx ends; Close delivers the rest.
func (a *localAWS) deliverTrail(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(trailEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := a.DeliverTrail(); err != nil {
				log.Error("the local AWS", "error", err)
			}
		}
	}
}

// sdk returns SDK configuration for the local AWS with the administrator's key.
func (a *localAWS) sdk() aws.Config {
	id, secret := a.AdminCredentials()
	return aws.Config{
		Region:       localRegion,
		BaseEndpoint: aws.String(a.url),
		Credentials:  credentials.NewStaticCredentialsProvider(id, secret, ""),
		HTTPClient:   http.DefaultClient,
	}
}

// admin returns the administrator's clients.
func (a *localAWS) admin() federation.AWS {
	c := a.sdk()
	return federation.AWS{
		IAM: iam.NewFromConfig(c),
		S3:  s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true }),
	}
}
