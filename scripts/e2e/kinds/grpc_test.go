package kinds

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// calls is a gRPC service.
type calls struct {
	grpc_testing.UnimplementedTestServiceServer

	deadlines chan time.Duration // that calls came with
	ended     chan error         // by which streams have
}

func (s *calls) UnaryCall(ctx context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "said"))
	if r.GetResponseStatus().GetCode() != 0 {
		return nil, status.Error(codes.Code(r.GetResponseStatus().GetCode()), r.GetResponseStatus().GetMessage())
	}
	return &grpc_testing.SimpleResponse{Payload: r.GetPayload()}, nil
}

// EmptyCall answers never.
func (s *calls) EmptyCall(ctx context.Context, _ *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	deadline, _ := ctx.Deadline()
	s.deadlines <- time.Until(deadline)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s *calls) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: r.GetPayload()})
		}
		if err != nil {
			s.ended <- err
			return err
		}
	}
}

// carriesGRPC puts a real gRPC server behind and asks it with a real client: by HTTP/2 over TLS.
func carriesGRPC(network, scheme string) func(*testing.T) {
	return func(t *testing.T) {
		listener, at := listen(t, network)
		s := &calls{deadlines: make(chan time.Duration, 1), ended: make(chan error, 1)}
		server := grpc.NewServer()
		grpc_testing.RegisterTestServiceServer(server, s)
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		t.Cleanup(func() {
			server.Stop()
			<-served
		})
		e := start(t, scheme+at)
		client := e.grpcClient(t)
		t.Run("calls", func(t *testing.T) { calling(t, client) })
		t.Run("streams both ways", func(t *testing.T) { streaming(t, client) })
		t.Run("errors", func(t *testing.T) { failing(t, client) })
		t.Run("deadlines", func(t *testing.T) { running(t, client, s) })
		t.Run("cancellation", func(t *testing.T) { cancelling(t, client, s) })
		server.Stop()
		t.Run("a target that is gone", func(t *testing.T) { isUnavailable(t, client) })
	}
}

func (e *edge) grpcClient(t *testing.T) grpc_testing.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+host, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(e.roots, host)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", e.secure)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

func payload(text string) *grpc_testing.Payload { return &grpc_testing.Payload{Body: []byte(text)} }

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func calling(t *testing.T, client grpc_testing.TestServiceClient) {
	var trailer metadata.MD
	text := strings.Repeat("gRPC ", 50_000)
	answer, err := client.UnaryCall(bounded(t), &grpc_testing.SimpleRequest{Payload: payload(text)}, grpc.Trailer(&trailer))
	if err != nil || string(answer.GetPayload().GetBody()) != text || strings.Join(trailer["x-trailer"], "") != "said" {
		t.Errorf("%d bytes, %v, trailer %v", len(answer.GetPayload().GetBody()), err, trailer)
	}
}

func streaming(t *testing.T, client grpc_testing.TestServiceClient) {
	stream, err := client.FullDuplexCall(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two", strings.Repeat("three", 20_000)} {
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(text)}); err != nil {
			t.Fatal(err)
		}
		if answer, err := stream.Recv(); err != nil || string(answer.GetPayload().GetBody()) != text {
			t.Fatalf("%.20q, %v", answer.GetPayload().GetBody(), err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
}

// failing gets an answer that has nothing but trailers.
func failing(t *testing.T, client grpc_testing.TestServiceClient) {
	want := status.New(codes.NotFound, "there is no such thing, 100 % sure")
	_, err := client.UnaryCall(bounded(t), &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: int32(want.Code()), Message: want.Message()}})
	if got := status.Convert(err); got.Code() != want.Code() || got.Message() != want.Message() {
		t.Errorf("%v, want %v", err, want.Err())
	}
}

func running(t *testing.T, client grpc_testing.TestServiceClient, s *calls) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := client.EmptyCall(ctx, &grpc_testing.Empty{})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	if left := <-s.deadlines; left <= 0 || left > 2*time.Second {
		t.Errorf("the target was told of a deadline in %v", left)
	}
}

func cancelling(t *testing.T, client grpc_testing.TestServiceClient, s *calls) {
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload("one")}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-s.ended:
		if status.Code(err) != codes.Canceled {
			t.Errorf("the target's stream ends with %v", err)
		}
	case <-time.After(patience):
		t.Error("the target is never told")
	}
}

// isUnavailable gets an error by which a client knows that it may try again, and a person what to look for.
func isUnavailable(t *testing.T, client grpc_testing.TestServiceClient) {
	_, err := client.UnaryCall(bounded(t), &grpc_testing.SimpleRequest{})
	if got := status.Convert(err); got.Code() != codes.Unavailable || !strings.Contains(got.Message(), "502 Bad Gateway") || !strings.Contains(got.Message(), "request ") {
		t.Errorf("%v", err)
	}
}
