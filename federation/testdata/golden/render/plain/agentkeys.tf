# The AWS side of AgentKeys (plain), for account 111122223333 in eu-central-1: run it with credentials of
# that account and an aws provider of that region.

resource "aws_iam_openid_connect_provider" "agentkeys" {
  url            = "https://broker.example.com/oidc"
  client_id_list = ["sts.amazonaws.com"]
}

resource "aws_iam_role" "agentkeys" {
  name        = "agentkeys-data-role"
  description = "Sessions of AgentKeys tenants"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "TenantSession"
        Effect = "Allow"
        Principal = {
          Federated = "arn:aws:iam::111122223333:oidc-provider/broker.example.com/oidc"
        }
        Action = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]
        Condition = {
          StringEquals = {
            "broker.example.com/oidc:aud" = "sts.amazonaws.com"
          }
          StringLike = {
            "broker.example.com/oidc:sub" = "agentkeys:agent:*"
          }
          Null = {
            "aws:RequestTag/agentkeys_user_wallet" = "false"
          }
        }
      },
    ]
  })
}

resource "aws_s3_bucket" "agentkeys" {
  bucket = "agentkeys-data"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_ownership_controls" "agentkeys" {
  bucket = aws_s3_bucket.agentkeys.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "agentkeys" {
  bucket                  = aws_s3_bucket.agentkeys.id
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "agentkeys" {
  bucket = aws_s3_bucket.agentkeys.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "TenantList"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:role/agentkeys-data-role"
        }
        Action   = "s3:ListBucket"
        Resource = "arn:aws:s3:::agentkeys-data"
        Condition = {
          StringLike = {
            "s3:prefix" = "bots/$${aws:PrincipalTag/agentkeys_user_wallet}/*"
          }
        }
      },
      {
        Sid    = "TenantObjects"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:role/agentkeys-data-role"
        }
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
        Resource = "arn:aws:s3:::agentkeys-data/bots/$${aws:PrincipalTag/agentkeys_user_wallet}/*"
      },
    ]
  })

  depends_on = [
    aws_iam_role.agentkeys,
    aws_s3_bucket_ownership_controls.agentkeys,
    aws_s3_bucket_public_access_block.agentkeys,
  ]
}
